"""The operations of S3 on multipart uploads."""

from __future__ import annotations

import re

from localmode.core.errors import ApiError
from localmode.s3.errors import NoSuchBucket, NoSuchUpload
from localmode.s3.operations.conditions import COPYING_IF, WRITING_IF, check_target
from localmode.s3.operations.objects import WRITING, source_of
from localmode.s3.operations.table import Result
from localmode.s3.store.digest import Digest, chunks_of
from localmode.s3.store.index import StoredObject
from localmode.s3.store.objects import ObjectStore
from localmode.s3.store.uploads import Part, Upload, Uploads, digest_of_parts, whole
from localmode.s3.wire.body import Body
from localmode.s3.wire.headers import Parameters, checked_key, identity, kept_headers, tags_in_header

_MIN_PART_BYTES = 5 << 20
_MAX_PARTS = 10_000
_UPLOAD = {"UploadId", "PartNumber"}
_RANGE = re.compile(r"bytes=(\d+)-(\d+)", re.ASCII)


class PartOperations:
    """Create, upload, complete, abort and list."""

    PARAMETERS = {
        "CreateMultipartUpload": WRITING - {"Body"},
        "UploadPart": {*_UPLOAD, "Body"},
        "UploadPartCopy": {*_UPLOAD, "CopySource", "CopySourceRange", *COPYING_IF},
        "CompleteMultipartUpload": {"UploadId", "MultipartUpload", "MpuObjectSize", *WRITING_IF},
        "AbortMultipartUpload": {"UploadId"},
        "ListParts": {"UploadId", "MaxParts", "PartNumberMarker"},
        "ListMultipartUploads": {"Prefix"},
    }

    def __init__(self, files: ObjectStore, uploads: Uploads) -> None:
        self._files = files
        self._uploads = uploads

    def create_multipart_upload(self, given: Parameters, body: Body) -> Result:
        """Create an upload."""
        self._files.bucket(given["Bucket"])
        upload = Upload(given["Bucket"], checked_key(given["Key"]), kept_headers(given), tags_in_header(given))
        self._uploads.create(upload)
        if not self._files.has_bucket(upload.bucket):  # deleted meanwhile, without ending this upload
            self._uploads.end(upload)
            raise NoSuchBucket(upload.bucket)
        return Result({"Bucket": upload.bucket, "Key": upload.key, "UploadId": upload.identity})

    def upload_part(self, given: Parameters, body: Body) -> Result:
        """Store one part."""
        part = self._uploads.write(self._upload(given), _part_number(given), body, body.verify)
        return Result(identity(part.digest, body.checksums))

    def upload_part_copy(self, given: Parameters, body: Body) -> Result:
        """Store a range of an object as one part."""
        upload, number = self._upload(given), _part_number(given)
        with source_of(self._files, given) as (entry, file):
            start, stop = _copied_range(given.get("CopySourceRange", ""), entry.size)
            file.seek(start)
            part = self._uploads.write(upload, number, chunks_of(file, stop - start))
        return Result({"CopyPartResult": {**identity(part.digest), "LastModified": part.modified}})

    def complete_multipart_upload(self, given: Parameters, body: Body) -> Result:
        """Assemble the parts in the order given, which must be that of their numbers."""
        upload = self._upload(given)
        parts = _chosen(given.get("MultipartUpload", {}).get("Parts", []), self._uploads.parts(upload))
        size = sum(part.size for part in parts)
        if given.get("MpuObjectSize", size) != size:
            raise ApiError(
                "InvalidRequest", f"x-amz-mp-object-size does not match: the parts have {size} bytes together"
            )

        def check(digest: Digest, old: StoredObject | None) -> Digest:
            self._uploads.get(upload.identity, upload.bucket, upload.key)  # it may have ended meanwhile
            check_target(given, old)
            of_parts = digest_of_parts(parts)
            if given.get("ChecksumType") != "FULL_OBJECT":
                return of_parts
            if given.get("ChecksumCRC32", digest.crc32) != digest.crc32:
                raise ApiError("BadDigest", "The CRC32 you specified did not match the calculated checksum.")
            return of_parts._replace(crc32=digest.crc32)

        try:
            entry = self._files.write(upload.bucket, upload.key, whole(parts), upload.headers, upload.tags, check)
        except FileNotFoundError as error:
            self._uploads.get(upload.identity, upload.bucket, upload.key)  # aborted meanwhile
            raise _invalid_part() from error  # or the part has been replaced
        self._uploads.end(upload)
        location = f"/{upload.bucket}/{upload.key}"
        members = {"Location": location, "Bucket": upload.bucket, "Key": upload.key}
        return Result({**members, **identity(entry.digest)})

    def abort_multipart_upload(self, given: Parameters, body: Body) -> Result:
        """Abort an upload."""
        upload = self._upload(given)
        if not self._uploads.end(upload):
            raise NoSuchUpload(upload.identity)
        return Result(status=204)

    def list_parts(self, given: Parameters, body: Body) -> Result:
        """List the parts received so far."""
        upload = self._upload(given)
        marker, limit = given.get("PartNumberMarker", 0), min(given.get("MaxParts", 1000), 1000)
        parts = [part for number, part in self._uploads.parts(upload).items() if number > marker]
        listed = [
            {
                "PartNumber": part.number,
                "LastModified": part.modified,
                "ETag": f'"{part.digest.etag}"',
                "Size": part.size,
            }
            for part in parts[:limit]
        ]
        members: Parameters = {"Bucket": upload.bucket, "Key": upload.key, "UploadId": upload.identity, "Parts": listed}
        members |= {"MaxParts": limit, "IsTruncated": len(parts) > limit, "PartNumberMarker": marker}
        if listed:
            members["NextPartNumberMarker"] = listed[-1]["PartNumber"]
        return Result({**members, "StorageClass": upload.headers.get("x-amz-storage-class", "STANDARD")})

    def list_multipart_uploads(self, given: Parameters, body: Body) -> Result:
        """List the uploads in progress."""
        self._files.bucket(given["Bucket"])
        uploads = [
            {"UploadId": upload.identity, "Key": upload.key, "Initiated": upload.initiated, "StorageClass": "STANDARD"}
            for upload in self._uploads.of_bucket(given["Bucket"])
            if upload.key.startswith(given.get("Prefix", ""))
        ]
        return Result({"Bucket": given["Bucket"], "Uploads": uploads, "IsTruncated": False, "MaxUploads": 1000})

    def _upload(self, given: Parameters) -> Upload:
        self._files.bucket(given["Bucket"])
        return self._uploads.get(given["UploadId"], given["Bucket"], given["Key"])


def _part_number(given: Parameters) -> int:
    number = int(given["PartNumber"])
    if not 1 <= number <= _MAX_PARTS:
        raise ApiError("InvalidArgument", f"Part number must be an integer between 1 and {_MAX_PARTS}, inclusive")
    return number


def _chosen(wanted: list[Parameters], received: dict[int, Part]) -> list[Part]:
    """Return the parts that a client has chosen for its object; raise ApiError if they cannot form one."""
    if not wanted:
        raise ApiError("MalformedXML", "The request does not name the parts of the object")
    numbers = [item.get("PartNumber", 0) for item in wanted]
    if numbers != sorted(set(numbers)):
        raise ApiError("InvalidPartOrder", "The list of parts was not in ascending order.")
    parts = []
    for item in wanted:
        part = received.get(item.get("PartNumber", 0))
        if part is None or item.get("ETag", "").strip('"') != part.digest.etag:
            raise _invalid_part()
        parts.append(part)
    if any(part.size < _MIN_PART_BYTES for part in parts[:-1]):
        raise ApiError("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
    return parts


def _invalid_part() -> ApiError:
    return ApiError("InvalidPart", "One or more of the specified parts could not be found, or its ETag did not match.")


def _copied_range(text: str, size: int) -> tuple[int, int]:
    """Return where the range begins and ends in an object of `size` bytes; raise ApiError if it is not inside it."""
    if not text:
        return 0, size
    match = _RANGE.fullmatch(text)
    if match is None or not int(match[1]) <= int(match[2]) < size:
        raise ApiError("InvalidArgument", f"x-amz-copy-source-range: {text[:100]!r} is not a range within {size} bytes")
    return int(match[1]), int(match[2]) + 1
