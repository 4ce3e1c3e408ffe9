"""Which request is which, and whom it serves."""

from dataclasses import replace

import pytest

from automq.s3stream.store.requests import (
    Operation,
    Purpose,
    Request,
    RequestOutcome,
    RequestTally,
    operation_of,
    outcome_of,
    purpose_of,
)


@pytest.mark.parametrize(
    ("method", "query", "operation"),
    [
        ("GET", "", Operation.GET_OBJECT),
        ("GET", "list-type=2&prefix=x", Operation.LIST_OBJECTS),
        ("GET", "uploads&prefix=x", Operation.LIST_MULTIPART_UPLOADS),
        ("PUT", "", Operation.PUT_OBJECT),
        ("PUT", "partNumber=1&uploadId=2", Operation.UPLOAD_PART),
        ("POST", "uploads", Operation.CREATE_MULTIPART_UPLOAD),
        ("POST", "uploadId=2", Operation.COMPLETE_MULTIPART_UPLOAD),
        ("POST", "delete", Operation.DELETE_OBJECTS),
        ("DELETE", "", Operation.DELETE_OBJECT),
        ("DELETE", "uploadId=2", Operation.ABORT_MULTIPART_UPLOAD),
        ("HEAD", "", Operation.HEAD_BUCKET),
    ],
)
def test_operation_is_told_by_method_and_query(method: str, query: str, operation: Operation) -> None:
    assert operation_of(method, query) is operation


@pytest.mark.parametrize(
    ("key", "read", "other"),
    [
        ("id/wal/1/2", Purpose.WAL, Purpose.WAL),
        ("id/data/1", Purpose.READ, Purpose.UPLOAD),
        ("id/meta/claims/1", Purpose.METADATA, Purpose.METADATA),
        ("cluster", Purpose.METADATA, Purpose.METADATA),
        ("", Purpose.METADATA, Purpose.METADATA),
        ("doctor/1-2/race/0", Purpose.DOCTOR, Purpose.DOCTOR),
    ],
)
def test_purpose_is_told_by_the_key(key: str, read: Purpose, other: Purpose) -> None:
    assert purpose_of(Operation.GET_OBJECT, key) is read
    assert purpose_of(Operation.PUT_OBJECT, key) is other
    assert purpose_of(Operation.LIST_OBJECTS, key) is other


def test_outcome_is_told_by_the_status() -> None:
    assert [outcome_of(status) for status in (200, 206, 204, 301, 404, 412, 500, 503)] == [
        *[RequestOutcome.SUCCESS] * 3,
        *[RequestOutcome.REFUSED] * 3,
        *[RequestOutcome.FAILED] * 2,
    ]


def test_tally_adds_up_what_differs_in_bytes_alone_and_is_taken_once() -> None:
    tally = RequestTally()
    got = Request(
        operation=Operation.GET_OBJECT,
        purpose=Purpose.COMPACTION,
        outcome=RequestOutcome.SUCCESS,
        received_bytes=5,
    )
    failed = replace(got, outcome=RequestOutcome.FAILED, received_bytes=0)
    for request in (got, failed, got, replace(got, received_bytes=1)):
        tally.add(request)

    assert tally.take() == (replace(got, received_bytes=11, count=3), failed)
    assert tally.take() == ()
