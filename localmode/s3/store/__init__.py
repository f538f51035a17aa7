"""The store of S3: buckets, objects and uploads on disk."""
