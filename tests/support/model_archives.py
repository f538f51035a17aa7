"""Model archives, made in memory."""

import gzip
import io
import tarfile
import zlib
from pathlib import Path


def archive_of(directory: Path) -> bytes:
    """Return a model.tar.gz of a directory's contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in sorted(directory.iterdir()):
            tar.add(path, path.name)
    return buffer.getvalue()


def archive(*members: tuple[str, str, bytes]) -> bytes:
    """Return an archive of members (name, link target or nothing, content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member_name, target, content in members:
            info = tarfile.TarInfo(member_name)
            info.size = len(content)
            if target:
                info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def damaged(content: bytes) -> bytes:
    """Return an archive with a valid beginning, after which gzip cannot read it."""
    compressor = zlib.compressobj(wbits=31)
    start = compressor.compress(gzip.decompress(content)[:5000]) + compressor.flush(zlib.Z_FULL_FLUSH)
    return start + b"\xff" * 100


SMALLEST = archive(("1/saved_model.pb", "", b"x"))  # can be unpacked, but no TensorFlow loads it
UNUSABLE = {  # by a part of the error, or alternatives for it
    "no numbered SavedModel": archive(("saved_model.pb", "", b"x")),
    "a member outside of it": archive(("../escaped", "", b"x")),
    "no file or directory": archive(("link", "../../..", b""), ("link/escaped", "", b"x")),
    "no file or directory: 'passwd'": archive(("passwd", "/etc/passwd", b"")),
    "outside of it: '/absolute'": archive(("/absolute", "", b"x")),
    "not a gzip file|could not be opened": b"nothing",
    "end-of-stream|unexpected end": archive(("1/saved_model.pb", "", bytes(range(256)) * 1000))[:-200],
    "invalid block type": damaged(archive(("1/saved_model.pb", "", bytes(range(256)) * 1000))),
}
