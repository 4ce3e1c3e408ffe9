"""What S3 servers answer, and what it means."""

import pytest

from automq.s3stream.ports import BucketNotFound, StoreError, StoreUnavailable
from automq.s3stream.store.s3_errors import MEANINGS, Answer, answer_in, answer_of_body, error_of
from tests.unit.broker.s3stream.store.s3_error_list import ERRORS

# Those that a later try of the same request may heal.
HEALING = (408, 409, 412, 425, 429)


@pytest.mark.parametrize(("status", "code", "error"), ERRORS)
def test_k6_each_error_of_the_list_has_its_exception(status: int, code: str, error: type[StoreError]) -> None:
    found = error_of(Answer(status=status, code=code, message="because"), "create s3://bucket/key")

    assert type(found) is error
    assert str(found).startswith(f"create s3://bucket/key: the store answered {status}")
    assert "because" in str(found)


def test_k6_refusal_that_does_not_heal_is_never_unavailable() -> None:
    for status in range(400, 500):
        for code in ("", "SomethingNew", *MEANINGS):
            error = error_of(Answer(status=status, code=code, message=""), "get s3://b/k")

            assert isinstance(error, StoreUnavailable) <= (status in HEALING)


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


def test_k6_redirect_whose_status_the_client_hides_is_another_region() -> None:
    answer = answer_in(
        "Generic S3 error: Error performing GET http://x/b in 1.2ms - Received redirect without LOCATION, this "
        "normally indicates an incorrectly configured region"
    )

    assert answer is not None
    assert type(error_of(answer, "get s3://b/k")) is BucketNotFound


@pytest.mark.parametrize(
    ("class_name", "status"),
    [("PermissionDeniedError", 403), ("UnauthenticatedError", 401), ("AlreadyExistsError", 412)],
)
def test_class_of_an_obstore_error_stands_for_a_status_that_it_hides(class_name: str, status: int) -> None:
    assert answer_in("Generic S3 error: no", class_name=class_name) == Answer(status=status, code="", message="")


def test_answer_with_a_body_that_is_no_error_of_s3_has_no_code() -> None:
    assert answer_of_body(502, b"<html>\xff bad gateway</html>") == Answer(status=502, code="", message="")
