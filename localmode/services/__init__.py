"""IAM, STS and CloudWatch Logs, served by moto and kept on disk."""
