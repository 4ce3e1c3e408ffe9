"""What S3 servers answer, and what it means."""

import pytest

from automq.s3stream.ports import (
    BucketNotFound,
    ObjectExists,
    ObjectNotFound,
    StoreAccessDenied,
    StoreConflict,
    StoreCredentialsRejected,
    StoreUnavailable,
    StoreUnsupported,
)
from automq.s3stream.store.s3_errors import Answer, answer_in, error_of


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (412, "PreconditionFailed", ObjectExists),
        (409, "ConditionalRequestConflict", StoreConflict),
        (409, "OperationAborted", StoreConflict),
        (404, "NoSuchKey", ObjectNotFound),
        (404, "NoSuchBucket", BucketNotFound),
        (404, "", StoreUnavailable),
        (404, "404", StoreUnavailable),
        (404, "XAdminUserNotFound", StoreCredentialsRejected),
        (301, "PermanentRedirect", BucketNotFound),
        (400, "AuthorizationHeaderMalformed", BucketNotFound),
        (403, "AccessDenied", StoreAccessDenied),
        (403, "", StoreAccessDenied),
        (403, "InvalidAccessKeyId", StoreCredentialsRejected),
        (403, "SignatureDoesNotMatch", StoreCredentialsRejected),
        (403, "RequestTimeTooSkewed", StoreCredentialsRejected),
        (400, "ExpiredToken", StoreCredentialsRejected),
        (400, "InvalidToken", StoreCredentialsRejected),
        (401, "", StoreCredentialsRejected),
        (500, "InternalError", StoreUnavailable),
        (503, "SlowDown", StoreUnavailable),
        (429, "TooManyRequests", StoreUnavailable),
        (400, "RequestTimeout", StoreUnavailable),
        (507, "XMinioStorageFull", StoreUnavailable),
        (501, "NotImplemented", StoreUnsupported),
        (405, "MethodNotAllowed", StoreUnsupported),
    ],
)
def test_status_and_code_decide(status: int, code: str, error: type[Exception]) -> None:
    found = error_of(Answer(status=status, code=code, message="because"), "create s3://bucket/key")

    assert type(found) is error
    assert str(found).startswith(f"create s3://bucket/key: the store answered {status}")
    assert "because" in str(found)


def test_answer_is_found_in_the_text_of_an_obstore_error() -> None:
    text = (
        "Object at location x/y not found: Error performing PUT http://127.0.0.1/b/x in 4.7ms - "
        'Server returned non-2xx status code: 404 Not Found: <?xml version="1.0"?>\n<Error><Code>NoSuchBucket</Code>'
        "<Message>The specified bucket does not exist</Message></Error>\n\nDebug source: NotFound {...}"
    )

    answer = answer_in(text)

    assert answer == Answer(status=404, code="NoSuchBucket", message="The specified bucket does not exist")
    assert str(answer) == "404 NoSuchBucket: The specified bucket does not exist"


def test_text_without_an_answer_has_none() -> None:
    assert answer_in("Generic S3 error: HTTP error: error sending request") is None
