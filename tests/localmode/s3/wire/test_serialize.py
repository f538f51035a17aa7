"""Answers of S3, as botocore parses them."""

from email.header import decode_header
from typing import Any

import pytest
from botocore.awsrequest import HeadersDict
from botocore.parsers import create_parser
from werkzeug.wrappers import Response

from localmode.core.aws import service_model
from localmode.core.errors import ApiError
from localmode.s3.wire.serialize import answer, error_answer, on_the_wire


def parsed(operation: str, response: Response) -> dict[str, Any]:
    """Return an answer as boto3 gives it to its caller."""
    shape = service_model("s3").operation_model(operation).output_shape
    raw = {"status_code": response.status_code, "headers": HeadersDict(response.headers), "body": response.data}
    found = dict(create_parser("rest-xml").parse(raw, shape))
    del found["ResponseMetadata"]
    return found


def answered(operation: str, **result: Any) -> Response:
    return answer(service_model("s3").operation_model(operation), result)


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        ("ListBuckets", {"Buckets": [{"Name": "a"}, {"Name": "b"}], "Owner": {"ID": "me"}}),
        ("ListBuckets", {"Buckets": []}),
        ("ListObjectsV2", {"Contents": [{"Key": "a & b", "Size": 1}, {"Key": "<c>"}], "IsTruncated": False}),
        ("ListObjectsV2", {"CommonPrefixes": [{"Prefix": "a/"}], "IsTruncated": True, "KeyCount": 1}),
        ("CreateMultipartUpload", {"Bucket": "abc", "Key": "key", "UploadId": "1"}),
        ("DeleteObjects", {"Deleted": [{"Key": "a"}], "Errors": [{"Key": "b", "Code": "AccessDenied"}]}),
        ("GetObjectTagging", {"TagSet": [{"Key": "a", "Value": ""}, {"Key": "b", "Value": "é"}]}),
        ("GetBucketPolicy", {"Policy": '{"Statement": []}'}),
        ("GetPublicAccessBlock", {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True}}),
        ("CopyObject", {"CopyObjectResult": {"ETag": '"e"'}, "ServerSideEncryption": "AES256"}),
        ("PutObject", {"ETag": '"e"', "ChecksumCRC32": "AAAAAA=="}),
    ],
)
def test_a_client_reads_what_was_answered(operation: str, result: dict[str, Any]) -> None:
    assert parsed(operation, answered(operation, **result)) == result


def test_the_location_of_a_bucket_is_the_text_of_the_root() -> None:
    assert b">eu-west-1</LocationConstraint>" in answered("GetBucketLocation", LocationConstraint="eu-west-1").data


def test_times_are_iso_8601_in_documents_and_http_dates_in_headers() -> None:
    assert (
        b"<LastModified>2023-11-14T22:13:20.014Z</LastModified>"
        in answered("ListObjectsV2", Contents=[{"Key": "a", "LastModified": 1700000000.0149}]).data
    )
    assert answered("HeadObject", LastModified=1700000000.0149).headers["Last-Modified"] == (
        "Tue, 14 Nov 2023 22:13:20 GMT"
    )


def test_members_without_a_value_are_left_out() -> None:
    response = answered("PutObject", ETag='"e"', ChecksumType=None)
    assert (dict(response.headers), response.data) == ({"ETag": '"e"'}, b"")


def test_characters_that_xml_does_not_allow_become_references() -> None:
    response = answered("ListObjectsV2", Contents=[{"Key": "a\0b\n\r"}])
    assert b"<Key>a&#0;b\n&#13;</Key>" in response.data


def test_headers_are_sent_in_utf_8() -> None:
    assert on_the_wire({"content-disposition": "é"}) == {"content-disposition": "é".encode().decode("latin-1")}


def test_metadata_outside_ascii_is_an_encoded_word() -> None:
    sent = on_the_wire({"x-amz-meta-plain": "a b", "x-amz-meta-title": "日本"})
    assert sent["x-amz-meta-plain"] == "a b"
    assert decode_header(sent["x-amz-meta-title"]) == [("日本".encode(), "utf-8")]


def test_an_error_has_its_code_its_message_and_what_it_is_about() -> None:
    response = error_answer(ApiError("NoSuchKey", "a < b", 404), "abc", "key")
    raw = {"status_code": response.status_code, "headers": {}, "body": response.data}
    error = create_parser("rest-xml").parse(raw, None)["Error"]
    assert (response.status_code, error["Code"], error["Message"]) == (404, "NoSuchKey", "a < b")
    assert (error["BucketName"], error["Key"]) == ("abc", "key")
