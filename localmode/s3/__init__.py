"""S3 over files.

    app.py       answers the requests of clients over HTTP
    operations/  the operations: objects, listings, multipart uploads, buckets
    wire/        the REST-XML protocol
    storage.py   the interface for training jobs and endpoints in this process
    store/       buckets, objects and uploads on disk
    errors.py    errors of the store and of the interface

`Storage` and `S3Application` share one `ObjectStore`.
"""
