"""S3: moto answers, the disk remembers. A write is acknowledged when it is on disk."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, quote

from werkzeug.wrappers import Response
from werkzeug.wsgi import get_input_stream

from localmode.disk import ObjectFiles, StoredObject
from localmode.services import Services
from localmode.shapes import ApiError

_SPOOL_BYTES = 1 << 20
_DEFAULT_TYPE = "binary/octet-stream"
_KEPT_HEADERS = re.compile(r"content-(type|encoding|language|disposition)|cache-control|expires|x-amz-meta-.*")
_BUCKET = "([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])"
_S3_URI = re.compile(f"s3://{_BUCKET}(?:/(.*))?", re.DOTALL)
_TARGET = re.compile(f"/{_BUCKET}(?:/([^\\0\\n]*))?")


class StorageError(Exception):
    """An S3 request of a job that cannot be met; the message goes into its FailureReason."""


def parse_uri(uri: str) -> tuple[str, str]:
    """Split `s3://bucket/key` into bucket and key; raise StorageError for anything else."""
    match = _S3_URI.fullmatch(uri)
    if match is None:
        raise StorageError(f"{uri!r} is not an S3 URI (s3://bucket/prefix)")
    return match[1], match[2] or ""


class Storage:
    """S3 for clients (over HTTP) and for instances (in process)."""

    def __init__(self, root: Path, services: Services) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.files = ObjectFiles(root)
        self._services = services
        self._writing = threading.RLock()  # moto's copy and the disk's change together
        for bucket in self.files.buckets():
            self._services.call("s3", "PUT", f"/{bucket}", {})
            for entry in self.files.objects(bucket):
                self._load(bucket, entry)

    def handle(self, environ: dict[str, Any]) -> Response:
        """Answer one S3 request of a client; a write is on disk before it is answered."""
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._services.send("s3", environ)
        bucket, key = _target(environ)
        with self._spooled(environ) as body:
            environ["wsgi.input"] = body
            environ["wsgi.input_terminated"] = True  # read at once, not piece by piece
            with self._writing:
                response = self._services.send("s3", environ)
                if response.status_code < 300:
                    self._write_through(environ, bucket, key, body)
                return response

    # What an instance does: list, read, put, delete.

    def bucket_exists(self, bucket: str) -> bool:
        """Tell whether there is such a bucket."""
        return bucket in self.files.buckets()

    def objects(self, bucket: str, prefix: str) -> list[StoredObject]:
        """Return the objects under a prefix; raise StorageError where there is no such bucket."""
        if not self.bucket_exists(bucket):
            raise StorageError(f"The S3 bucket '{bucket}' does not exist")
        return self.files.objects(bucket, prefix)

    def put_file(self, bucket: str, key: str, path: Path) -> None:
        """Upload a file; it is on disk when this returns."""
        if not self.bucket_exists(bucket):
            raise StorageError(f"The S3 bucket '{bucket}' does not exist")
        with path.open("rb") as file:
            self.files.write(bucket, key, iter(partial(file.read, _SPOOL_BYTES), b""), {})
        with self._writing:  # moto's copy is of what is on disk by now, whoever wrote that
            stored = self.files.get(bucket, key)
            if stored is not None:
                self._load(bucket, stored)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object; one that is not there is no error, as in S3."""
        with self._writing:
            self._services.call("s3", "DELETE", _path(bucket, key), {})
            self._refresh(bucket, key)

    # The two copies.

    def _write_through(self, environ: dict[str, Any], bucket: str, key: str, body: IO[bytes]) -> None:
        """Bring the disk in line with what moto has just done."""
        query = _query(environ)
        if key:
            if "partNumber" not in query and "uploads" not in query:
                self._refresh(bucket, key)
        elif "delete" in query:
            body.seek(0)  # the answer does not name them if it is to be quiet
            for deleted in ElementTree.parse(body).iterfind("{*}Object/{*}Key"):
                self._refresh(bucket, deleted.text or "")
        elif self._services.call("s3", "HEAD", f"/{bucket}", {}).status_code == 200:
            self.files.create_bucket(bucket)
        else:
            self.files.delete_bucket(bucket)

    def _refresh(self, bucket: str, key: str) -> None:
        """Copy moto's object to disk, or delete it there; if the disk refuses, moto gets the old one back."""
        answer = self._services.call("s3", "GET", _path(bucket, key), {})
        if answer.status_code == 404:
            self.files.delete(bucket, key)
            return
        headers = {
            name.lower(): value
            for name, value in answer.headers.items()
            if _KEPT_HEADERS.fullmatch(name.lower()) and (name.lower(), value) != ("content-type", _DEFAULT_TYPE)
        }
        try:
            self.files.write(bucket, key, answer.iter_encoded(), headers)
        except OSError:
            old = self.files.get(bucket, key)
            if old is None:
                self._services.call("s3", "DELETE", _path(bucket, key), {})
            else:
                self._load(bucket, old)
            raise

    def _load(self, bucket: str, entry: StoredObject) -> None:
        with entry.path.open("rb") as file:
            self._put(bucket, entry.key, file, entry.headers)

    def _put(self, bucket: str, key: str, file: IO[bytes], headers: dict[str, str]) -> None:
        size = file.seek(0, 2)
        file.seek(0)
        sent = {"content-type": _DEFAULT_TYPE, **headers, "content-length": str(size)}
        response = self._services.call("s3", "PUT", _path(bucket, key), sent, body=file)
        if response.status_code >= 300:
            raise StorageError(f"s3://{bucket}/{key}: {response.get_data(as_text=True)[:300]}")

    @contextmanager
    def _spooled(self, environ: dict[str, Any]) -> Iterator[IO[bytes]]:
        """Take the whole body off the socket first, so that a slow client holds up nobody."""
        scratch = str(self.files.scratch)
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES, mode="w+b", dir=scratch) as body:
            yield self._spool(environ, body)

    def _spool(self, environ: dict[str, Any], body: Any) -> Any:
        shutil.copyfileobj(get_input_stream(environ), body)
        environ["CONTENT_LENGTH"] = str(body.tell())
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        body.seek(0)
        return body


def _target(environ: dict[str, Any]) -> tuple[str, str]:
    """Return bucket and key that a request wants to change; raise ApiError for what cannot be changed."""
    path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
    match = _TARGET.fullmatch(path)
    if match is None:
        raise ApiError(
            "InvalidBucketName", f"{path!r} does not begin with the name of a bucket, or has a NUL or newline"
        )
    bucket, key = match[1], match[2] or ""
    accepted = {"uploads", "uploadId"} if key else {"delete"}
    method = environ["REQUEST_METHOD"]
    if method not in ("PUT", "POST", "DELETE") or (method == "POST" and not accepted & _query(environ).keys()):
        raise ApiError("NotImplemented", f"localmode does not implement {method} of this in S3", 501)
    return bucket, key


def _query(environ: dict[str, Any]) -> dict[str, list[str]]:
    return parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)


def _path(bucket: str, key: str) -> str:
    return f"/{bucket}/{quote(key, safe='/~')}"
