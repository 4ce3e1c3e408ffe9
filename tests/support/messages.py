"""Random messages of any class and version, made from a seed by the class's own descriptors."""

import dataclasses
import itertools
import random
import uuid
from collections.abc import Iterator
from typing import Any

from automq.protocol.errors import ErrorCode
from automq.protocol.schema import Message, Scalar, Wire, wire_of

_RANGES = {
    Scalar.INT8: (-(2**7), 2**7 - 1),
    Scalar.INT16: (-(2**15), 2**15 - 1),
    Scalar.UINT16: (0, 2**16 - 1),
    Scalar.INT32: (-(2**31), 2**31 - 1),
    # kio turns some of these into dates and durations, which end earlier than the wire's numbers.
    Scalar.INT64: (-(2**44), 2**46),
}
OWN_TAGS = 10_000
"""Tags from here on are ours: other implementations cannot say what their bytes are, so they keep their defaults."""
_ERROR_CODES = [code.value for code in ErrorCode]
_TEXTS = ["", "a", "topic", "größe", "日本", "x" * 126, "x" * 127, "y" * 300]


def random_message(cls: type, version: int, source: random.Random) -> Any:
    """An instance with random values in every field that `version` has."""
    values = {}
    for field in dataclasses.fields(cls):
        wire = wire_of(field)
        if wire.is_in(version) and not (wire.tag is not None and (wire.tag >= OWN_TAGS or source.random() < 0.4)):
            values[field.name] = _random_field(field.name, wire, version, source)
    return cls(**values)


def _random_field(name: str, wire: Wire, version: int, source: random.Random) -> object:
    if wire.is_nullable(version) and (wire.tag is None or wire.default is None) and source.random() < 0.3:
        return None
    if wire.is_array:
        count = source.choice([0, 1, 1, 2, 3])
        if isinstance(wire.kind, Scalar) and source.random() < 0.1:
            count = 130
        return [_random_item(name, wire, version, source) for _ in range(count)]
    return _random_item(name, wire, version, source)


def _random_item(name: str, wire: Wire, version: int, source: random.Random) -> object:
    kind = wire.kind
    if not isinstance(kind, Scalar):
        return random_message(kind, version, source)
    if kind is Scalar.BOOLEAN:
        return source.random() < 0.5
    if kind is Scalar.FLOAT64:
        return source.choice([0.0, -1.5, 1e300, source.random()])
    if kind is Scalar.UUID:
        return uuid.UUID(int=source.getrandbits(128)) if source.random() < 0.8 else uuid.UUID(int=0)
    if kind is Scalar.STRING:
        return source.choice(_TEXTS)
    if kind is Scalar.BINARY:
        return source.randbytes(source.choice([0, 1, 20, 126, 127, 200]))
    if kind is Scalar.RECORDS:
        return memoryview(source.randbytes(source.choice([0, 1, 61, 500])))
    if kind is Scalar.INT16 and name.endswith("error_code"):
        return source.choice(_ERROR_CODES)
    low, high = _RANGES[kind]
    return source.choice([0, 1, -1 if low < 0 else 2, low, high, source.randint(low, high)])


def sample_message(cls: type, version: int, counter: Iterator[int] | None = None) -> Any:
    """The instance whose every field has a value of its own, always the same: for golden files."""
    counter = counter or itertools.count(1)
    values: dict[str, object] = {}
    for field in dataclasses.fields(cls):
        wire = wire_of(field)
        if wire.is_in(version):
            item = _sample_item(wire.kind, version, counter)
            values[field.name] = [item, _sample_item(wire.kind, version, counter)] if wire.is_array else item
    return cls(**values)


def _sample_item(kind: Scalar | type, version: int, counter: Iterator[int]) -> object:
    if not isinstance(kind, Scalar):
        return sample_message(kind, version, counter)
    number = next(counter)
    samples: dict[Scalar, Any] = {
        Scalar.BOOLEAN: number % 2 == 1,
        Scalar.FLOAT64: number + 0.5,
        Scalar.UUID: uuid.UUID(int=number << 96 | number),
        Scalar.STRING: f"text-{number}",
        Scalar.BINARY: f"bytes-{number}".encode(),
        Scalar.RECORDS: memoryview(f"records-{number}".encode()),
    }
    return samples.get(kind, number % 128 if kind is Scalar.INT8 else number)


def all_messages() -> list[tuple[type[Message], int]]:
    """Every request and response class with every version it has."""
    from automq.protocol.apis import APIS

    classes = [cls for api in APIS.values() for cls in (api.request_class, api.response_class)]
    return [(cls, version) for cls in classes for version in cls.VERSIONS]
