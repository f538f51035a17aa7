"""Checksums of bodies, and bodies in chunks."""

import base64
import hashlib
from functools import partial

import pytest

from tests.support.local import BUCKET, Daemon
from tests.support.s3 import MIB, Client, checksums, code_of, crc32, raw_put, read, upload_parts


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_a_body_with_another_checksum_is_refused(s3: Client, name: str, algorithm: str) -> None:
    wrong = {f"Checksum{algorithm}": base64.b64encode(bytes(4 if algorithm == "CRC32" else 20)).decode()}
    assert code_of(lambda: s3.put_object(Bucket=BUCKET, Key=name, Body=b"1", **wrong)) == "BadDigest"
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"1", ChecksumAlgorithm=algorithm)
    assert read(s3, name) == b"1"


def test_the_default_checksum_is_returned(s3: Client, name: str) -> None:
    expected = {"ChecksumCRC32": crc32(b"12"), "ChecksumType": "FULL_OBJECT"}
    assert checksums(s3.put_object(Bucket=BUCKET, Key=name, Body=b"12")) == expected
    assert checksums(s3.head_object(Bucket=BUCKET, Key=name, ChecksumMode="ENABLED")) == expected


def test_the_checksum_that_a_client_chose_is_returned(s3: Client, name: str) -> None:
    digest = base64.b64encode(hashlib.sha256(b"12").digest()).decode()
    expected = {"ChecksumSHA256": digest, "ChecksumType": "FULL_OBJECT"}
    where = {"Bucket": BUCKET, "Key": name}
    assert checksums(s3.put_object(**where, Body=b"12", ChecksumAlgorithm="SHA256")) == expected
    assert checksums(s3.head_object(**where, ChecksumMode="ENABLED")) == expected
    assert "x-amz-checksum-sha256" not in s3.head_object(**where)["ResponseMetadata"]["HTTPHeaders"]
    copied = s3.copy_object(Bucket=BUCKET, Key=f"{name}-2", CopySource=where)["CopyObjectResult"]
    assert checksums(copied) == expected
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    part = s3.upload_part(**where, PartNumber=1, Body=b"12", ChecksumAlgorithm="SHA256")
    assert checksums(part) == {"ChecksumSHA256": digest}


def test_completing_an_upload_verifies_the_checksum_of_the_object(s3: Client, name: str) -> None:
    upload, parts = upload_parts(s3, name, b"a" * 5 * MIB, b"b")
    given = {"Bucket": BUCKET, "Key": name, "UploadId": upload, "MultipartUpload": {"Parts": parts}}
    complete = partial(s3.complete_multipart_upload, **given, ChecksumType="FULL_OBJECT")
    assert code_of(lambda: complete(ChecksumCRC32=crc32(b"other"))) == "BadDigest"
    expected = {"ChecksumCRC32": crc32(b"a" * 5 * MIB + b"b"), "ChecksumType": "FULL_OBJECT"}
    assert checksums(complete(ChecksumCRC32=expected["ChecksumCRC32"])) == expected
    assert checksums(s3.head_object(Bucket=BUCKET, Key=name, ChecksumMode="ENABLED")) == expected


def test_chunks_with_a_trailing_checksum_are_decoded(daemon: Daemon, name: str) -> None:
    crc = crc32(b"hello world")
    body = b"6;chunk-signature=00\r\nhello \r\n5\r\nworld\r\n0\r\nx-amz-checksum-crc32:%s\r\n\r\n"
    headers = {"x_amz_content_sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "content_encoding": "aws-chunked"}
    trailer = {"x_amz_trailer": "x-amz-checksum-crc32"}
    assert raw_put(daemon, name, body % crc.encode(), **headers, **trailer)[0] == 200
    assert read(daemon.s3, name) == b"hello world"
    assert "ContentEncoding" not in daemon.s3.head_object(Bucket=BUCKET, Key=name)
    status, answer = raw_put(daemon, name, body % b"AAAAAA==", **headers, **trailer)
    assert (status, b"BadDigest" in answer) == (400, True)
    for broken in (b"zz\r\n", b"6\r\nhel", b""):
        assert raw_put(daemon, name, broken, **headers)[0] == 400
    assert read(daemon.s3, name) == b"hello world"
