"""The oracle of the wire codec: the same message as an object of `kio`, and kio's bytes for it."""

import dataclasses
import datetime
import functools
import importlib
import io
import re
import uuid
from typing import Any

import kio.serial
import kio.serial._introspect as introspect
from kio.schema.errors import ErrorCode as KioErrorCode

from automq.protocol.schema import Message

_MILLISECOND = datetime.timedelta(milliseconds=1)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


@functools.cache
def kio_class(cls: type[Message], version: int) -> Any:
    """kio's class for our class in one version."""
    match = re.fullmatch(r"(.+?)(Request|Response|RequestHeader|ResponseHeader)?", cls.__name__)
    assert match is not None
    if cls.__name__.endswith("Header"):
        package, kind = snake_case(cls.__name__), "header"
    else:
        package, kind = snake_case(match[1]), (match[2] or "data").lower()
    return getattr(importlib.import_module(f"kio.schema.{package}.v{version}.{kind}"), cls.__name__)


def to_kio(message: Any, cls: Any) -> Any:
    """`message` as an instance of kio's `cls`; a field kio has and we lack is an error."""
    return cls(**{field.name: _value(getattr(message, field.name), field) for field in dataclasses.fields(cls)})


def _value(value: Any, field: Any) -> Any:
    kind = introspect.classify_field(field)
    if value is None:
        return None
    if isinstance(kind, introspect.EntityTupleField):
        return tuple(to_kio(item, kind.type_) for item in value)
    if isinstance(kind, introspect.EntityField):
        return to_kio(value, kind.type_)
    name = introspect.get_schema_field_type(field)
    if isinstance(kind, introspect.PrimitiveTupleField):
        return tuple(_scalar(item, name, is_optional=False) for item in value)
    return _scalar(value, name, is_optional=introspect.is_optional(field))


def _scalar(value: Any, name: str, *, is_optional: bool) -> Any:
    if name == "error_code":
        return KioErrorCode(value)
    if name.startswith("timedelta"):
        return value * _MILLISECOND
    if name == "datetime_i64":
        return None if value == -1 and is_optional else _EPOCH + value * _MILLISECOND
    if name == "uuid":
        return None if value == uuid.UUID(int=0) else value
    if name == "records":
        return bytes(value)
    return value


def kio_bytes(message: Message, version: int) -> bytes:
    """What kio writes for `message`."""
    cls = kio_class(type(message), version)
    buffer = io.BytesIO()
    kio.serial.entity_writer(cls)(buffer, to_kio(message, cls))
    return buffer.getvalue()


def kio_read(cls: type[Message], version: int, data: bytes) -> Any:
    """What kio reads `data` as. Raises AssertionError when it leaves some of it unread."""
    message, size = kio.serial.entity_reader(kio_class(cls, version))(data, 0)
    assert size == len(data), f"kio leaves bytes of {cls.__name__} version {version} unread"
    return message
