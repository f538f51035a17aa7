"""Helpers for the tests of S3: read, list, upload in parts, send a raw PUT."""

import base64
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localmode.s3.store.objects import ObjectStore
from tests.support.local import BUCKET, Daemon

MIB = 1 << 20
Client = Any
ODD_KEYS = [
    "../x",
    "a",
    "a/b",
    "a//b",
    "a/",
    "b/c/d",
    "b/c",
    "/",
    "//",
    ".",
    "..",
    "./x",
    "x/../y",
    "sp ace+plus",
    "100%",
    "%2e%2e/z",
    "ünï/😀",
    "q?x=1&y=2#f",
    "c:\\d",
    "tab\there",
    "new\nline",
    "nul\0",
    "~",
    ".hidden",
    "UPPER",
    "upper",
    "k" * 1024,
    "d/" * 511 + "e",
    "ü" * 512,
]


def read(client: Client, key: str, bucket: str = BUCKET, **options: Any) -> bytes:
    with client.get_object(Bucket=bucket, Key=key, **options)["Body"] as body:
        return bytes(body.read())


def keys(client: Client, prefix: str = "", bucket: str = BUCKET, **options: Any) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **options)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def code_of(call: Callable[[], Any]) -> str:
    """Return the code of the error that a call raises."""
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def upload_parts(s3: Client, key: str, *bodies: bytes) -> tuple[str, list[dict[str, Any]]]:
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key, Metadata={"a": "1"})["UploadId"]
    where = {"Bucket": BUCKET, "Key": key, "UploadId": upload}
    etags = [s3.upload_part(**where, PartNumber=number, Body=body)["ETag"] for number, body in enumerate(bodies, 1)]
    return upload, [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]


def crc32(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def checksums(answer: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in answer.items() if name.startswith("Checksum")}


def raw_put(daemon: Daemon, key: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, _, answer = daemon.send("s3", "PUT", f"/{BUCKET}/{key}", body, **named)
    return status, answer


def stored(root: Path, bucket: str = "abc") -> dict[str, bytes]:
    """Read a store from disk as a restarted daemon does; return the bytes by key."""
    return {entry.key: entry.path.read_bytes() for entry in ObjectStore(root).objects(bucket)}
