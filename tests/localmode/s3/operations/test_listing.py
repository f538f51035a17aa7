"""Listings, as clients see them."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.s3 import Client


def listed(objects: list[str], prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
    """Return the keys and common prefixes of a listing, computed in a simple way."""
    keys, prefixes = [], set()
    for key in sorted(objects):
        if key.startswith(prefix):
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if found:
                prefixes.add(prefix + head + delimiter)
            else:
                keys.append(key)
    return keys, sorted(prefixes)


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
def test_pages_of_a_listing_add_up_to_the_whole_listing(s3: Client, bucket: str, operation: str) -> None:
    generator = random.Random(1)
    keys = {"".join(generator.choice("ab/é&😀") for _ in range(generator.randrange(1, 6))) for _ in range(80)}
    keys = {key for key in keys if not key.startswith("/")}
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    for prefix in ("", "a", "a/", "é"):
        for delimiter in ("", "/", "b/"):
            for size in (1, 3, 1000):
                pages = s3.get_paginator(operation).paginate(
                    Bucket=bucket, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}
                )
                found: list[str] = []
                prefixes: list[str] = []
                for page in pages:
                    found += [entry["Key"] for entry in page.get("Contents", [])]
                    prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
                    assert len(page.get("Contents", [])) + len(page.get("CommonPrefixes", [])) <= size
                assert (found, prefixes) == listed(sorted(keys), prefix, delimiter)


def test_a_listing_describes_its_objects(s3: Client, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="a", Body=b"12")["ETag"]
    [entry] = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert (entry["ETag"], entry["Size"], entry["StorageClass"]) == (etag, 2, "STANDARD")
    assert abs(entry["LastModified"] - datetime.now(UTC)) < timedelta(minutes=1)
    assert "Owner" not in entry
    [entry] = s3.list_objects_v2(Bucket=bucket, FetchOwner=True)["Contents"]
    assert entry["Owner"] == s3.list_buckets()["Owner"]
    assert s3.list_objects(Bucket=bucket)["Contents"][0]["Owner"] == entry["Owner"]
    assert s3.list_objects_v2(Bucket=bucket, StartAfter="a")["KeyCount"] == 0
    assert not s3.list_objects_v2(Bucket=bucket, MaxKeys=0)["IsTruncated"]
