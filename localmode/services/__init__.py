"""IAM, STS and CloudWatch Logs, served by moto."""
