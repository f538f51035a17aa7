"""The REST-XML protocol of S3.

    parse.py      requests: operation, parameters, XML documents
    headers.py    check parameters that arrive in headers
    body.py       read bodies, decode chunks, verify checksums
    serialize.py  answers

Parsing and serializing follow botocore's model of the service.
"""
