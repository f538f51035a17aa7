"""S3 over files: the store, the protocol, and the operations. `localmode.storage` is the door."""
