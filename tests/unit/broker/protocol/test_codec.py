"""The compiled codec: byte for byte what kio writes, for every API and version, in both directions."""

import random
import zlib

import pytest

from automq.protocol.codec import decode_whole, encode
from automq.protocol.schema import Message
from tests.support.kio_oracle import kio_bytes
from tests.support.messages import all_messages, random_message

INSTANCES = 6


def seeded(cls: type[Message], version: int) -> random.Random:
    return random.Random(zlib.crc32(f"{cls.__name__} {version}".encode()))


@pytest.mark.parametrize(("cls", "version"), all_messages(), ids=lambda value: getattr(value, "__name__", value))
def test_bytes_are_those_of_kio(cls: type[Message], version: int) -> None:
    source = seeded(cls, version)
    for _ in range(INSTANCES):
        message = random_message(cls, version, source)
        expected = kio_bytes(message, version)

        assert encode(message, version) == expected
        assert decode_whole(cls, version, expected) == message
