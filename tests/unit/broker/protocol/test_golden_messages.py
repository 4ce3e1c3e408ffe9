"""Golden bytes: the newest version of every message, and every version of Produce and Fetch.

kio holds the codec today; these files hold it when kio is renewed.
"""

import textwrap

import pytest

from automq.protocol.apis import APIS, ApiKey
from automq.protocol.codec import decode_versioned, encode, encode_versioned
from automq.protocol.messages.group_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
)
from automq.protocol.schema import Message
from tests.support import golden
from tests.support.messages import sample_message

FAMILIES = sorted({api.family for api in APIS.values()})


def entry(cls: type[Message], version: int, data: bytes) -> str:
    lines = textwrap.wrap(data.hex(), 96)
    return "\n".join([f"{cls.__name__} version {version}", *(f"  {line}" for line in lines), ""])


@pytest.mark.parametrize("family", FAMILIES)
def test_messages_are_those_of_the_golden_file(family: str) -> None:
    entries = []
    for api in APIS.values():
        if api.family != family:
            continue
        for cls in (api.request_class, api.response_class):
            is_hot = api.key in (ApiKey.PRODUCE, ApiKey.FETCH)
            for version in cls.VERSIONS if is_hot else cls.VERSIONS[-1:]:
                entries.append(entry(cls, version, encode(sample_message(cls, version), version)))

    golden.check_text(f"protocol/messages/{family}.txt", "\n".join(entries))


def test_group_records_are_those_of_the_golden_file() -> None:
    entries = []
    for cls in (OffsetCommitKey, OffsetCommitValue, GroupMetadataKey, GroupMetadataValue):
        for version in cls.VERSIONS:
            message = sample_message(cls, version)
            data = encode_versioned(message, version)
            assert decode_versioned(cls, data) == message
            entries.append(entry(cls, version, data))

    golden.check_text("protocol/messages/group_records.txt", "\n".join(entries))
