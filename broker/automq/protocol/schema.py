"""Field descriptors: how one field of a message looks on the wire, from which version and up to which.

A message is one dataclass for all versions of an API. A descriptor stands where the field's default would stand and
gives the dataclass that default; the codec reads the rest from the field's metadata. Words of every descriptor:

- `since`, `until`: the versions that have the field, both ends included;
- `nullable_since`: the version from which null is allowed on the wire; absent means never;
- `tag`: the field is tagged, so it is left out while it has its default;
- `ignorable`: a version that lacks the field is sent without it; otherwise a value other than the default is an error;
- `default`: what the field has when nobody set it and when the version lacks it.
"""

import dataclasses
import enum
import uuid as uuid_module
from typing import Any, ClassVar

VERSION_MAX = 32767
METADATA_KEY = "wire"
ZERO_UUID = uuid_module.UUID(int=0)


class Scalar(enum.Enum):
    """A type of the wire that has no fields; the value is its `struct` letter where it has one."""

    INT8 = "b"
    INT16 = "h"
    UINT16 = "H"
    INT32 = "i"
    INT64 = "q"
    FLOAT64 = "d"
    BOOLEAN = "?"
    UUID = "16s"
    STRING = "string"
    BINARY = "binary"
    RECORDS = "records"


class Message:
    """Base of the messages that are encoded on their own: requests, responses, headers, records of internal topics."""

    __slots__ = ()

    API_KEY: ClassVar[int | None] = None
    VERSIONS: ClassVar[range] = range(0)
    """The versions this class can be encoded and decoded in."""
    FLEXIBLE_SINCE: ClassVar[int | None] = None
    """The version from which lengths are compact and tagged fields are allowed; None means never."""

    @classmethod
    def is_flexible(cls, version: int) -> bool:
        """Whether `version` has compact lengths and tagged fields."""
        return cls.FLEXIBLE_SINCE is not None and version >= cls.FLEXIBLE_SINCE


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """What the codec knows of one field."""

    kind: Scalar | type
    """A scalar, or the dataclass of a nested struct."""
    is_array: bool
    since: int
    until: int
    nullable_since: int | None
    tag: int | None
    ignorable: bool
    is_never_compact: bool
    """The length keeps its old form in flexible versions too: the client id of a request header."""
    default: object
    """An empty list for arrays; for a struct that is not null by default, the class itself: each one is made anew."""

    def is_in(self, version: int) -> bool:
        """Whether `version` has the field."""
        return self.since <= version <= self.until

    def is_nullable(self, version: int) -> bool:
        """Whether null is allowed in `version`."""
        return self.nullable_since is not None and version >= self.nullable_since


def wire_of(field: "dataclasses.Field[Any]") -> Wire:
    """The descriptor behind a field of a message."""
    wire = field.metadata[METADATA_KEY]
    assert isinstance(wire, Wire), field.name
    return wire


def _field(
    kind: Scalar | type,
    default: object,
    *,
    since: int,
    until: int,
    nullable_since: int | None = None,
    tag: int | None = None,
    ignorable: bool = False,
    is_array: bool = False,
    is_never_compact: bool = False,
) -> Any:
    wire = Wire(
        kind=kind,
        is_array=is_array,
        since=since,
        until=until,
        nullable_since=nullable_since,
        tag=tag,
        ignorable=ignorable,
        is_never_compact=is_never_compact,
        default=default,
    )
    metadata = {METADATA_KEY: wire}
    if isinstance(default, list):
        return dataclasses.field(default_factory=list, metadata=metadata)
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def int8(
    *, since: int = 0, until: int = VERSION_MAX, tag: int | None = None, default: int = 0, ignorable: bool = False
) -> Any:
    """A signed byte."""
    return _field(Scalar.INT8, default, since=since, until=until, tag=tag, ignorable=ignorable)


def int16(
    *, since: int = 0, until: int = VERSION_MAX, tag: int | None = None, default: int = 0, ignorable: bool = False
) -> Any:
    """Two bytes, signed; error codes too."""
    return _field(Scalar.INT16, default, since=since, until=until, tag=tag, ignorable=ignorable)


def uint16(
    *, since: int = 0, until: int = VERSION_MAX, tag: int | None = None, default: int = 0, ignorable: bool = False
) -> Any:
    """Two bytes, unsigned."""
    return _field(Scalar.UINT16, default, since=since, until=until, tag=tag, ignorable=ignorable)


def int32(
    *, since: int = 0, until: int = VERSION_MAX, tag: int | None = None, default: int = 0, ignorable: bool = False
) -> Any:
    """Four bytes, signed; durations in milliseconds too."""
    return _field(Scalar.INT32, default, since=since, until=until, tag=tag, ignorable=ignorable)


def int64(
    *, since: int = 0, until: int = VERSION_MAX, tag: int | None = None, default: int = 0, ignorable: bool = False
) -> Any:
    """Eight bytes, signed; offsets, and times in milliseconds since 1970."""
    return _field(Scalar.INT64, default, since=since, until=until, tag=tag, ignorable=ignorable)


def float64(
    *, since: int = 0, until: int = VERSION_MAX, tag: int | None = None, default: float = 0.0, ignorable: bool = False
) -> Any:
    """An IEEE double."""
    return _field(Scalar.FLOAT64, default, since=since, until=until, tag=tag, ignorable=ignorable)


def boolean(
    *, since: int = 0, until: int = VERSION_MAX, tag: int | None = None, default: bool = False, ignorable: bool = False
) -> Any:
    """One byte; anything but zero reads as true."""
    return _field(Scalar.BOOLEAN, default, since=since, until=until, tag=tag, ignorable=ignorable)


def unique_id(*, since: int = 0, until: int = VERSION_MAX, tag: int | None = None, ignorable: bool = False) -> Any:
    """Sixteen bytes; all zero means none."""
    return _field(Scalar.UUID, ZERO_UUID, since=since, until=until, tag=tag, ignorable=ignorable)


def string(
    *,
    since: int = 0,
    until: int = VERSION_MAX,
    nullable_since: int | None = None,
    tag: int | None = None,
    default: str | None = "",
    ignorable: bool = False,
    is_never_compact: bool = False,
) -> Any:
    """UTF-8 text of at most 32767 bytes."""
    return _field(
        Scalar.STRING,
        default,
        is_never_compact=is_never_compact,
        since=since,
        until=until,
        nullable_since=nullable_since,
        tag=tag,
        ignorable=ignorable,
    )


def binary(
    *,
    since: int = 0,
    until: int = VERSION_MAX,
    nullable_since: int | None = None,
    tag: int | None = None,
    default: bytes | None = b"",
    ignorable: bool = False,
) -> Any:
    """Bytes, copied out of the frame when decoded."""
    return _field(
        Scalar.BINARY,
        default,
        since=since,
        until=until,
        nullable_since=nullable_since,
        tag=tag,
        ignorable=ignorable,
    )


def record_set(*, since: int = 0, until: int = VERSION_MAX, nullable_since: int | None = None) -> Any:
    """Record batches: when decoded a view into the frame, valid as long as the frame is."""
    return _field(Scalar.RECORDS, None, since=since, until=until, nullable_since=nullable_since)


def array(
    kind: Scalar | type,
    *,
    since: int = 0,
    until: int = VERSION_MAX,
    nullable_since: int | None = None,
    tag: int | None = None,
    default: None | tuple[()] = (),
    ignorable: bool = False,
) -> Any:
    """A list of scalars or structs, empty by default, or null with `default=None`."""
    return _field(
        kind,
        None if default is None else [],
        since=since,
        until=until,
        nullable_since=nullable_since,
        tag=tag,
        ignorable=ignorable,
        is_array=True,
    )


def struct(
    kind: type,
    *,
    since: int = 0,
    until: int = VERSION_MAX,
    nullable_since: int | None = None,
    tag: int | None = None,
    default: None | tuple[()] = (),
    ignorable: bool = False,
) -> Any:
    """One nested struct, with its own defaults by default, or null with `default=None`."""
    return _field(
        kind,
        None if default is None else kind,
        since=since,
        until=until,
        nullable_since=nullable_since,
        tag=tag,
        ignorable=ignorable,
    )
