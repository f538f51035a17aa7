"""The index in memory."""

from pathlib import Path

import pytest

from localmode.s3.errors import BucketNotEmpty, NoSuchBucket
from localmode.s3.store.digest import Digest
from localmode.s3.store.index import Bucket, Index, StoredObject

DIGEST = Digest("etag", "crc32")


def entry(key: str, size: int = 0) -> StoredObject:
    return StoredObject(key, Path("/objects") / key, size)


def index_of(*keys: str) -> Index:
    """Return an index with a bucket `abc` that has these keys."""
    index = Index({})
    index.put_bucket(Bucket("abc", 1.0))
    for key in keys:
        index.add("abc", entry(key))
    return index


def listed(index: Index, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000) -> list[str]:
    """Return the keys, then the common prefixes, of a page."""
    page = index.page("abc", prefix, delimiter, after, limit)
    return [found.key for found in page.objects] + page.prefixes


def test_objects_are_listed_in_the_order_of_their_utf_8_bytes() -> None:
    assert listed(index_of("b", "\U0001f600", "a", "\uffff", "B")) == ["B", "a", "b", "\uffff", "\U0001f600"]


def test_an_object_that_is_replaced_is_listed_once() -> None:
    index = index_of("a")
    index.add("abc", entry("a", size=2))
    assert [found.size for found in index.under("abc", "")] == [2]


def test_a_removed_object_is_neither_found_nor_listed() -> None:
    index = index_of("a", "b")
    index.remove("abc", "a")
    assert (index.get("abc", "a"), listed(index)) == (None, ["b"])


def test_only_objects_under_the_prefix_are_returned() -> None:
    assert [found.key for found in index_of("a", "ab/1", "ab/2", "b").under("abc", "ab/")] == ["ab/1", "ab/2"]


def test_keys_with_the_delimiter_are_one_common_prefix() -> None:
    assert listed(index_of("a", "b/1", "b/2", "c"), delimiter="/") == ["a", "c", "b/"]


def test_a_page_ends_at_the_limit_and_says_where_the_next_begins() -> None:
    index = index_of("a", "b/1", "b/2", "c")
    page = index.page("abc", "", "/", "", 2)
    assert ([found.key for found in page.objects], page.prefixes, page.next_after) == (["a"], ["b/"], "b/")
    assert listed(index, delimiter="/", after="b/") == ["c"]


def test_the_last_page_has_no_next_one() -> None:
    assert index_of("a", "b").page("abc", "", "", "", 2).next_after is None


def test_objects_that_begin_with_the_key_after_which_a_page_begins_are_listed() -> None:
    assert listed(index_of("a", "a\0", "a/b", "b"), after="a") == ["a\0", "a/b", "b"]


def test_a_bucket_with_objects_is_not_removed() -> None:
    index = index_of("a")
    with pytest.raises(BucketNotEmpty):
        index.remove_bucket("abc")
    index.remove("abc", "a")
    assert (index.remove_bucket("abc").name, index.has_bucket("abc")) == ("abc", False)


def test_a_bucket_whose_documents_change_keeps_its_objects() -> None:
    index = index_of("a")
    index.put_bucket(Bucket("abc", 1.0, {"BucketPolicy": "{}"}))
    assert (index.bucket("abc").documents, listed(index)) == ({"BucketPolicy": "{}"}, ["a"])


def test_an_unknown_bucket_is_an_error() -> None:
    for call in (Index({}).bucket, Index({}).remove_bucket, lambda name: Index({}).get(name, "a")):
        with pytest.raises(NoSuchBucket):
            call("abc")


def test_buckets_are_returned_by_name() -> None:
    index = index_of()
    index.put_bucket(Bucket("aaa", 2.0))
    assert [bucket.name for bucket in index.buckets()] == ["aaa", "abc"]


def test_a_digest_is_kept_with_its_object() -> None:
    index = index_of("a")
    found = index.get("abc", "a")
    assert found is not None
    with pytest.raises(LookupError, match="'a' has not been computed"):
        found.digest  # noqa: B018
    assert index.identify("abc", found, DIGEST).digest == DIGEST
    assert index.get("abc", "a") == index.identify("abc", found, DIGEST)


def test_the_digest_of_a_replaced_object_is_not_kept() -> None:
    index = index_of("a")
    old, new = index.get("abc", "a"), entry("a", size=2)
    assert old is not None
    index.add("abc", new)
    assert index.identify("abc", old, DIGEST).size == 0
    assert index.get("abc", "a") is new
