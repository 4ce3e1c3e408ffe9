"""Kafka's error codes, whole and without gaps."""

from kio.schema.errors import ErrorCode as KioErrorCode

from automq.protocol.errors import RETRIABLE, ApiError, ErrorCode


def test_codes_are_those_of_kafka() -> None:
    assert {code.name: int(code) for code in ErrorCode} == {code.name.upper(): int(code) for code in KioErrorCode}
    assert sorted(ErrorCode) == list(range(-1, 134))


def test_retriable_codes_are_those_of_kafka() -> None:
    assert {int(code) for code in KioErrorCode if code.retriable} == RETRIABLE


def test_api_error_says_what_happened() -> None:
    error = ApiError(ErrorCode.TOPIC_ALREADY_EXISTS, "Topic 'a' already exists.")

    assert str(error) == "TOPIC_ALREADY_EXISTS: Topic 'a' already exists."
    assert not error.is_retriable
    assert ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER).is_retriable
