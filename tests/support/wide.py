"""Requests that are as wide as one can be: for each array that a request has, one with very many elements in it."""

import dataclasses
import itertools
import uuid
from collections.abc import Iterator
from typing import Any

from automq.protocol.schema import Message, Scalar, Wire, wire_of

Path = tuple[str, ...]
"""The fields that lead to an array, from the message down."""


def arrays_of(cls: type, version: int) -> Iterator[Path]:
    """Every array that messages of that class and version have, those in structs of other arrays among them."""
    for field in dataclasses.fields(cls):
        wire = wire_of(field)
        if not wire.is_in(version):
            continue
        if wire.is_array:
            yield (field.name,)
        if not isinstance(wire.kind, Scalar):
            for path in arrays_of(wire.kind, version):
                yield (field.name, *path)


def wide_message(cls: type[Message], version: int, path: Path, count: int) -> Any:
    """A message with `count` elements, no two the same, in the array at `path`, and one in each other array."""
    return _wide_struct(cls, version, path, count, itertools.count(1))


def _wide_struct(cls: type, version: int, path: Path, count: int, counter: Iterator[int]) -> Any:
    values: dict[str, object] = {}
    for field in dataclasses.fields(cls):
        wire = wire_of(field)
        if not wire.is_in(version):
            continue
        if not path or field.name != path[0]:
            item = _item(wire, version, counter)
            values[field.name] = [item] if wire.is_array else item
        elif len(path) == 1:
            values[field.name] = [_item(wire, version, counter) for _ in range(count)]
        else:
            assert isinstance(wire.kind, type)
            wide = _wide_struct(wire.kind, version, path[1:], count, counter)
            values[field.name] = [wide] if wire.is_array else wide
    return cls(**values)


def _item(wire: Wire, version: int, counter: Iterator[int]) -> object:
    kind = wire.kind
    if not isinstance(kind, Scalar):
        return _wide_struct(kind, version, (), 1, counter)
    number = next(counter)
    samples: dict[Scalar, Any] = {
        Scalar.BOOLEAN: False,
        Scalar.FLOAT64: 0.5,
        Scalar.UUID: uuid.UUID(int=number << 96 | number),
        Scalar.STRING: f"text-{number}",
        Scalar.BINARY: b"bytes",
        Scalar.RECORDS: memoryview(b""),
        Scalar.INT8: number % 4,
        Scalar.INT16: number % 30_000,
    }
    return samples.get(kind, number)
