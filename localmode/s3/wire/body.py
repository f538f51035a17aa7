"""The body of an S3 request: decode its chunks and verify its checksums."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import IO, Any

from werkzeug.wsgi import get_input_stream

from localmode.core.errors import ApiError
from localmode.s3.store.digest import CHUNK_BYTES, Digest, chunks_of
from localmode.s3.wire.headers import CHECKSUM

MAX_DOCUMENT_BYTES = 4 << 20  # more than 1,000 keys to delete or 10,000 parts to complete need
_HASHES = ("sha1", "sha256", "sha512")  # computed here; the store computes MD5 and CRC-32


class Body:
    """The bytes of a request. They can be iterated once; ApiError is raised if they are incomplete or differ from a
    checksum.

    CRC-32, MD5, SHA-1, SHA-256 and SHA-512 are verified, in a header or a trailer. CRC-32C, CRC-64/NVME and XXHash
    are not: Python's standard library does not implement them. `described` is false if the checksum headers are about
    something other than the body.
    """

    def __init__(self, environ: dict[str, Any], described: bool = True) -> None:
        self._stream: IO[bytes] = get_input_stream(environ)
        self._expected: dict[str, str] = {}
        for name, value in environ.items():
            wire = name.removeprefix("HTTP_").lower().replace("_", "-")
            if described and wire.startswith(CHECKSUM):
                self._expected[wire.removeprefix(CHECKSUM)] = value
        if md5 := environ.get("HTTP_CONTENT_MD5"):
            self._expected["md5"] = md5
        signed = environ.get("HTTP_X_AMZ_CONTENT_SHA256", "")
        self._chunked = signed.startswith("STREAMING-") or "aws-chunked" in environ.get("HTTP_CONTENT_ENCODING", "")
        trailer = environ.get("HTTP_X_AMZ_TRAILER", "").strip().lower()
        self._hashes = {
            name: hashlib.new(name, usedforsecurity=False)
            for name in _HASHES
            if name in self._expected or trailer == CHECKSUM + name
        }

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._unpacked() if self._chunked else chunks_of(self._stream):
            for computed in self._hashes.values():
                computed.update(chunk)
            yield chunk
        for name, computed in self._hashes.items():
            self._compare(name, base64.b64encode(computed.digest()).decode())

    @property
    def checksums(self) -> dict[str, str]:
        """The verified checksums by their headers, without CRC-32, which the store keeps for every object."""
        return {CHECKSUM + name: self._expected[name] for name in self._hashes if name in self._expected}

    def document(self) -> bytes:
        """Return the whole body; raise ApiError if it is longer than MAX_DOCUMENT_BYTES."""
        content = bytearray()
        for chunk in self:
            content += chunk
            if len(content) > MAX_DOCUMENT_BYTES:
                raise ApiError("MaxMessageLengthExceeded", "Your request was too large.")
        self.verify(Digest.of([bytes(content)]))
        return bytes(content)

    def verify(self, digest: Digest) -> None:
        """Raise ApiError if the digest differs from a checksum that the client has sent."""
        self._compare("crc32", digest.crc32)
        self._compare("md5", base64.b64encode(bytes.fromhex(digest.etag)).decode())

    def _compare(self, name: str, computed: str) -> None:
        expected = self._expected.get(name, computed)
        if expected != computed:
            given = "Content-MD5" if name == "md5" else f"{name.upper()}"
            raise ApiError("BadDigest", f"The {given} you specified did not match the calculated checksum.")

    def _unpacked(self) -> Iterator[bytes]:
        """Yield the bytes of `aws-chunked` content and read its trailers. Signatures of chunks are not verified.

        https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
        """
        while True:
            header = self._stream.readline(1000)
            try:
                left = int(header.split(b";")[0], 16)
            except ValueError as error:
                raise ApiError("InvalidRequest", "The body is not in aws-chunked encoding.") from error
            if left == 0:
                break
            while left > 0:
                piece = self._stream.read(min(left, CHUNK_BYTES))
                if not piece:
                    raise ApiError("IncompleteBody", "The request body terminated unexpectedly.")
                left -= len(piece)
                yield piece
            self._stream.readline(1000)
        while line := self._stream.readline(1000).strip():
            name, _, value = line.decode("latin-1").partition(":")
            if name.lower().startswith(CHECKSUM):
                self._expected[name.lower().removeprefix(CHECKSUM)] = value.strip()
