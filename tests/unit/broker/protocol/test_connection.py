"""Heads of requests, and answers in the order of their requests."""

import random

import pytest

from automq.protocol.apis import APIS, ApiKey
from automq.protocol.codec import MalformedMessage
from automq.protocol.connection import ResponseQueue, UnknownApi, parse_head
from automq.protocol.messages.header import RequestHeader
from tests.support.kio_oracle import kio_bytes


def head_bytes(key: int, version: int, client_id: str | None) -> bytes:
    header = RequestHeader(request_api_key=key, request_api_version=version, correlation_id=77, client_id=client_id)
    return kio_bytes(header, APIS[key].request_header_version(version))


@pytest.mark.parametrize("key", list(APIS))
@pytest.mark.parametrize("client_id", [None, "", "größe", "c" * 200])
def test_head_is_parsed_in_every_version(key: int, client_id: str | None) -> None:
    for version in APIS[key].versions:
        data = head_bytes(key, version, client_id)

        head = parse_head(memoryview(data + b"body"))

        assert (head.api.key, head.version, head.correlation_id, head.client_id) == (key, version, 77, client_id)
        assert head.body_offset == len(data)
        assert head.is_supported


def test_unknown_tags_of_the_head_are_skipped() -> None:
    data = head_bytes(ApiKey.METADATA, 12, "client")[:-1] + b"\x02\x05\x03abc\x90\x4e\x00"

    assert parse_head(memoryview(data + b"body")).body_offset == len(data)


def test_api_versions_of_the_future_is_still_recognised() -> None:
    head = parse_head(memoryview(head_bytes(ApiKey.API_VERSIONS, 4, "c").replace(b"\x00\x04", b"\x00\x64", 1)))

    assert head.api.key is ApiKey.API_VERSIONS
    assert (head.version, head.is_supported) == (100, False)


def test_unknown_key_is_no_head() -> None:
    with pytest.raises(UnknownApi):
        parse_head(memoryview(b"\x03\xe8" + bytes(20)))


@pytest.mark.parametrize("version", [9, 12])
def test_head_cut_anywhere_is_malformed(version: int) -> None:
    data = head_bytes(ApiKey.METADATA, version, "client")
    cuts = range(len(data)) if version == 12 else range(len(data) - 1)
    for cut in cuts:
        with pytest.raises(MalformedMessage):
            parse_head(memoryview(data[:cut]))


def test_client_id_that_is_no_text_is_malformed() -> None:
    data = head_bytes(ApiKey.METADATA, 4, "client").replace(b"client", b"cli\xffnt")

    with pytest.raises(MalformedMessage):
        parse_head(memoryview(data))


class Told:
    """Counts calls."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def test_answers_leave_in_the_order_of_their_requests() -> None:
    for seed in range(50):
        source = random.Random(seed)
        queue = ResponseQueue(Told())
        slots = list(enumerate(queue.open_slot() for _ in range(20)))
        source.shuffle(slots)
        taken: list[object] = []
        for index, slot in slots:
            if index % 5 == 0:
                slot.discard()
            else:
                slot.complete([bytes([index])])
            if source.random() < 0.3:
                taken += queue.take_ready()[0]
        taken += queue.take_ready()[0]

        assert taken == [bytes([index]) for index in range(20) if index % 5]
        assert len(queue) == 0


def test_owner_is_told_once_until_it_takes() -> None:
    told = Told()
    queue = ResponseQueue(told)
    first, second, third = (queue.open_slot() for _ in range(3))

    second.complete([b"2"])
    assert told.count == 0
    first.complete([b"1"])
    third.complete([b"3"])
    assert told.count == 1

    assert queue.take_ready() == ([b"1", b"2", b"3"], 3)
    queue.open_slot().complete([b"4"])
    assert told.count == 2


def test_requests_in_flight_are_bounded() -> None:
    queue = ResponseQueue(Told(), in_flight_max=2)
    first = queue.open_slot()
    queue.open_slot()
    assert queue.is_full

    first.complete([b"x"])
    queue.take_ready()

    assert not queue.is_full


def test_answers_that_come_after_the_end_are_dropped() -> None:
    told = Told()
    queue = ResponseQueue(told)
    slots = [queue.open_slot() for _ in range(3)]
    slots[0].complete([b"a"])

    queue.close()
    slots[1].complete([b"b"])
    slots[2].discard()

    assert (queue.take_ready()[0], len(queue), told.count) == ([], 0, 1)
