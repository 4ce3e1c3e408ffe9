"""Descriptors and annotations of the messages say the same."""

import dataclasses
import importlib
import pkgutil
import typing
import uuid
from typing import Any

import pytest

import automq.protocol.messages
from automq.protocol.schema import VERSION_MAX, Message, Scalar, wire_of

PYTHON_TYPES: dict[Scalar, type] = {
    Scalar.INT8: int,
    Scalar.INT16: int,
    Scalar.UINT16: int,
    Scalar.INT32: int,
    Scalar.INT64: int,
    Scalar.FLOAT64: float,
    Scalar.BOOLEAN: bool,
    Scalar.UUID: uuid.UUID,
    Scalar.STRING: str,
    Scalar.BINARY: bytes,
    Scalar.RECORDS: memoryview,
}


def all_structs() -> list[type]:
    structs = []
    for info in pkgutil.iter_modules(automq.protocol.messages.__path__):
        module = importlib.import_module(f"automq.protocol.messages.{info.name}")
        structs += [value for value in vars(module).values() if dataclasses.is_dataclass(value)]
    return [struct for struct in structs if isinstance(struct, type)]


@pytest.mark.parametrize("cls", all_structs(), ids=lambda cls: cls.__name__)
def test_annotations_are_what_the_codec_gives(cls: type) -> None:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        wire = wire_of(field)
        expected: Any = PYTHON_TYPES[wire.kind] if isinstance(wire.kind, Scalar) else wire.kind
        if wire.is_array:
            expected = list[expected]
        if wire.nullable_since is not None or wire.default is None:
            expected = expected | None
        assert hints[field.name] == expected, field.name
        assert 0 <= wire.since <= wire.until <= VERSION_MAX


@pytest.mark.parametrize("cls", all_structs(), ids=lambda cls: cls.__name__)
def test_everything_has_a_default(cls: type) -> None:
    assert cls() == cls()


def test_tags_of_a_struct_are_distinct_and_only_in_flexible_versions() -> None:
    for cls in all_structs():
        tags = [wire_of(field).tag for field in dataclasses.fields(cls) if wire_of(field).tag is not None]
        assert len(tags) == len(set(tags))
        if issubclass(cls, Message):
            for field in dataclasses.fields(cls):
                wire = wire_of(field)
                if wire.tag is not None:
                    assert cls.is_flexible(max(wire.since, cls.VERSIONS[0]))


def test_class_names_of_a_module_are_its_own() -> None:
    for cls in all_structs():
        assert cls.__module__.startswith("automq.protocol.messages.")
        assert not hasattr(cls(), "__dict__"), "slots keep messages small"
