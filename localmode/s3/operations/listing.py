"""The operations of S3 that list objects."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

from localmode.core.errors import ApiError
from localmode.s3.operations.table import OWNER, Result
from localmode.s3.store.index import Page
from localmode.s3.store.objects import ObjectStore
from localmode.s3.wire.body import Body
from localmode.s3.wire.headers import MAX_KEYS, Parameters

_LISTING = {"Prefix", "Delimiter", "MaxKeys", "EncodingType"}


class ListOperations:
    """List a bucket, in either version of the operation."""

    PARAMETERS = {
        "ListObjects": {*_LISTING, "Marker"},
        "ListObjectsV2": {*_LISTING, "ContinuationToken", "StartAfter", "FetchOwner"},
    }

    def __init__(self, files: ObjectStore) -> None:
        self._files = files

    def list_objects(self, given: Parameters, body: Body) -> Result:
        """List the objects after a marker."""
        marker = given.get("Marker", "")
        page = self._page(given, marker)
        members = self._listed(given, page, with_owner=True) | {"Marker": marker}
        if page.next_after is not None and given.get("Delimiter"):
            members["NextMarker"] = page.next_after
        return Result(_encoded(given, members))

    def list_objects_v2(self, given: Parameters, body: Body) -> Result:
        """List the objects after a token or a key."""
        after = given.get("StartAfter", "")
        if (token := given.get("ContinuationToken")) is not None:
            after = _key_of(token)
        page = self._page(given, after)
        members = self._listed(given, page, given.get("FetchOwner", False))
        members |= {"KeyCount": len(page.objects) + len(page.prefixes), "StartAfter": given.get("StartAfter")}
        members["ContinuationToken"] = token
        if page.next_after is not None:
            members["NextContinuationToken"] = base64.urlsafe_b64encode(page.next_after.encode()).decode()
        return Result(_encoded(given, members))

    def _page(self, given: Parameters, after: str) -> Page:
        limit = given.get("MaxKeys", MAX_KEYS)
        if limit < 0:
            raise ApiError("InvalidArgument", "max-keys must not be negative")
        return self._files.page(
            given["Bucket"], given.get("Prefix", ""), given.get("Delimiter", ""), after, min(limit, MAX_KEYS)
        )

    def _listed(self, given: Parameters, page: Page, with_owner: bool) -> Parameters:
        contents = [
            {
                "Key": entry.key,
                "LastModified": entry.modified / 1e9,
                "ETag": f'"{entry.digest.etag}"',
                "Size": entry.size,
                "StorageClass": entry.headers.get("x-amz-storage-class", "STANDARD"),
                "Owner": OWNER if with_owner else None,
            }
            for entry in page.objects
        ]
        limit = given.get("MaxKeys", MAX_KEYS)
        return {
            "Name": given["Bucket"],
            "Prefix": given.get("Prefix", ""),
            "Delimiter": given.get("Delimiter"),
            "MaxKeys": min(limit, MAX_KEYS),
            "IsTruncated": page.next_after is not None and limit > 0,
            "Contents": contents,
            "CommonPrefixes": [{"Prefix": prefix} for prefix in page.prefixes],
            "EncodingType": given.get("EncodingType"),
        }


def _key_of(token: str) -> str:
    try:
        if key := base64.urlsafe_b64decode(token.encode()).decode():
            return key
    except ValueError:
        pass
    raise ApiError("InvalidArgument", "The continuation token provided is incorrect")


def _encoded(given: Parameters, members: Parameters) -> Parameters:
    """Return a listing with its keys encoded as the client requests."""
    if given.get("EncodingType") != "url":
        return members

    def encode(value: Any) -> Any:
        return quote(value, safe="/") if isinstance(value, str) else value

    names = ("Prefix", "Delimiter", "Marker", "NextMarker", "StartAfter")
    return {
        **members,
        **{name: encode(members[name]) for name in names if name in members},
        "Contents": [{**item, "Key": encode(item["Key"])} for item in members["Contents"]],
        "CommonPrefixes": [{"Prefix": encode(item["Prefix"])} for item in members["CommonPrefixes"]],
    }
