"""The table of APIs is Kafka 4.3's."""

import pytest

from automq.protocol.apis import APIS, Api, ApiKey, encode_request, encode_response
from automq.protocol.codec import decode
from automq.protocol.connection import parse_head
from automq.protocol.messages.discovery import ApiVersionsRequest, ApiVersionsResponse
from automq.protocol.messages.group import HeartbeatResponse

# Key: first and last version a 4.3 broker serves to clients, as its own tool prints them.
KAFKA = {
    0: (3, 13), 1: (4, 18), 2: (1, 11), 3: (0, 13), 8: (2, 10), 9: (1, 10), 10: (0, 6), 11: (0, 9), 12: (0, 4),
    13: (0, 5), 14: (0, 5), 15: (0, 6), 16: (0, 5), 17: (0, 1), 18: (0, 4), 19: (2, 7), 20: (1, 6), 21: (0, 2),
    22: (0, 5), 23: (2, 4), 24: (0, 5), 25: (0, 4), 26: (0, 5), 27: (1, 2), 28: (0, 5), 29: (1, 3), 30: (1, 3),
    31: (1, 3), 32: (1, 4), 33: (0, 2), 34: (1, 2), 35: (1, 5), 36: (0, 2), 37: (0, 3), 38: (1, 3), 39: (1, 2),
    40: (1, 2), 41: (1, 3), 42: (0, 2), 43: (0, 2), 44: (0, 1), 45: (0, 1), 46: (0, 0), 47: (0, 0), 48: (0, 1),
    49: (0, 1), 50: (0, 0), 51: (0, 0), 55: (0, 2), 57: (0, 2), 60: (0, 2), 61: (0, 0), 64: (0, 0), 65: (0, 0),
    66: (0, 2), 68: (0, 1), 69: (0, 1), 71: (0, 0), 72: (0, 0), 74: (0, 1), 75: (0, 0), 76: (1, 1), 77: (1, 1),
    78: (1, 2), 79: (1, 2), 80: (0, 1), 81: (0, 0), 83: (0, 0), 84: (0, 0), 85: (0, 1), 86: (0, 0), 87: (0, 1),
    88: (0, 0), 89: (0, 0), 90: (0, 1), 91: (0, 0), 92: (0, 0),
}  # fmt: skip


def test_versions_are_those_of_kafka() -> None:
    assert {key: (api.versions[0], api.versions[-1]) for key, api in APIS.items()} == KAFKA


@pytest.mark.parametrize("api", APIS.values(), ids=lambda api: api.name)
def test_classes_agree_with_the_table(api: Api) -> None:
    for cls in (api.request_class, api.response_class):
        assert api.key == cls.API_KEY
        assert api.versions == cls.VERSIONS
        for version in api.versions:
            assert cls.is_flexible(version) == api.is_flexible(version)


def test_produce_is_advertised_from_zero_on() -> None:
    different = [api.name for api in APIS.values() if api.advertised != api.versions]

    assert different == ["Produce"]
    assert APIS[ApiKey.PRODUCE].advertised == range(14)


def test_answer_to_api_versions_never_has_a_flexible_header() -> None:
    api = APIS[ApiKey.API_VERSIONS]

    frame = encode_response(api, 4, 7, ApiVersionsResponse(error_code=35))

    assert frame[:4] == (len(frame) - 4).to_bytes(4, "big")
    assert frame[4:8] == b"\x00\x00\x00\x07"
    assert decode(ApiVersionsResponse, 4, frame, 8) == (ApiVersionsResponse(error_code=35), len(frame))


def test_answer_in_a_flexible_version_has_a_flexible_header() -> None:
    api = APIS[ApiKey.HEARTBEAT]

    assert encode_response(api, 4, 7, HeartbeatResponse()) == bytes.fromhex("0000000c 00000007 00 00000000 0000 00")
    assert encode_response(api, 3, 7, HeartbeatResponse()) == bytes.fromhex("0000000a 00000007 00000000 0000")


def test_request_frame_is_read_back() -> None:
    request = ApiVersionsRequest(client_software_name="automq", client_software_version="1")

    frame = encode_request(APIS[ApiKey.API_VERSIONS], 3, 7, "client", request)

    head = parse_head(memoryview(frame)[4:])
    assert (head.api.key, head.version, head.correlation_id, head.client_id) == (18, 3, 7, "client")
    assert decode(ApiVersionsRequest, 3, frame, 4 + head.body_offset) == (request, len(frame))
