"""The REST-XML protocol of S3."""
