"""The operations of S3, as functions of parsed parameters and a body."""
