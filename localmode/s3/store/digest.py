"""ETag and CRC-32 of an object's bytes, computed piece by piece."""

from __future__ import annotations

import base64
import hashlib
import math
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, NamedTuple

CHUNK_BYTES = 1 << 18  # larger ones cost more in page faults than they save in calls


def chunks_of(file: IO[bytes], size: float = math.inf) -> Iterator[bytes]:
    """Yield the rest of a file, or its next `size` bytes, in pieces."""
    while size > 0 and (chunk := file.read(int(min(size, CHUNK_BYTES)))):
        size -= len(chunk)
        yield chunk


def copied(body: Iterable[bytes], file: IO[bytes]) -> Iterator[bytes]:
    """Yield the pieces of a body, each after it has been written to a file."""
    for chunk in body:
        file.write(chunk)
        yield chunk


class Digest(NamedTuple):
    """The ETag of an object, without quotes, and the CRC-32 of its bytes (base64; "" if unknown)."""

    etag: str
    crc32: str

    @classmethod
    def of(cls, chunks: Iterable[bytes]) -> Digest:
        """Compute both. MD5, the slower one, is computed in another thread while the next piece is awaited."""
        md5, crc32 = hashlib.md5(usedforsecurity=False), 0
        with ThreadPoolExecutor(1) as beside:
            added: Future[None] | None = None
            for chunk in chunks:
                if added is not None:
                    added.result()
                added = beside.submit(md5.update, chunk)
                crc32 = zlib.crc32(chunk, crc32)
        return cls(md5.hexdigest(), base64.b64encode(crc32.to_bytes(4, "big")).decode())
