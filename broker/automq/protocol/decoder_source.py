"""Writes the source of decoders, one function for each (class, version), and compiles it.

The generated function gets the buffer `b`, the offset `o` and `left`, the array elements the message may still have.
It makes every struct without calling `__init__`, sets all fields, and returns the message and the offset behind it.
Runs of fixed-size fields become one `struct` call. Names with a number at the end are local to one field.

    def decode(b, o, left):
        size = len(b)
        try:
            m = new(HeartbeatRequest)
            ...
        except (IndexError, StructError, ValueError) as error:
            raise failure(error, o, size) from None
        return m, o

One that decodes in parts is a generator: it yields after every so many elements of arrays, and returns what is left of
those allowed beside.
"""

import dataclasses
import functools
import struct
import uuid
from collections.abc import Callable, Generator
from typing import Any, Final

from automq.binary import read_unsigned_varint
from automq.protocol.schema import ZERO_UUID, Message, Scalar, Wire, wire_of

# Elements of arrays that are decoded in one part: each takes half a microsecond or one.
ELEMENTS_A_PART: Final = 1_000
# The same of numbers, which come by the thousand.
NUMBERS_A_PART: Final = 20_000

TAGS_MAX: Final = 10_000
"""Tagged fields of one struct, unknown ones included."""

STRING_BYTES_MAX: Final = 32767
"""The old form of a length, two bytes, cannot say more; the compact one may not."""

FIXED = {
    Scalar.INT8: 1,
    Scalar.INT16: 2,
    Scalar.UINT16: 2,
    Scalar.INT32: 4,
    Scalar.INT64: 8,
    Scalar.FLOAT64: 8,
    Scalar.BOOLEAN: 1,
}
"""Bytes of the scalars that `struct` packs by a letter."""


class DecodingError(Exception):
    """(reason, position): what a decoder raises; `codec` adds whose bytes they were."""


@functools.lru_cache(maxsize=4096)
def uuid_of(data: bytes) -> uuid.UUID:
    """Topic ids come again and again, and a UUID takes longer to make than all else in its struct. The one that stands
    for none is always `ZERO_UUID` itself."""
    return uuid.UUID(bytes=data) if any(data) else ZERO_UUID


def skip_tags(buffer: bytes | memoryview, offset: int, size: int) -> int:
    """The offset behind a section of tagged fields that nobody here knows."""
    count, offset = read_unsigned_varint(buffer, offset)
    if count > TAGS_MAX:
        raise ValueError(f"{count} tagged fields are too many")
    for _ in range(count):
        _tag, offset = read_unsigned_varint(buffer, offset)
        length, offset = read_unsigned_varint(buffer, offset)
        offset += length
        if offset > size:
            raise IndexError
    return offset


def bytes_min(cls: type, version: int, *, is_flexible: bool) -> int:
    """The fewest bytes a struct takes in `version`."""
    size = 1 if is_flexible else 0
    for field in dataclasses.fields(cls):
        wire = wire_of(field)
        if wire.is_in(version) and wire.tag is None:
            size += _field_bytes_min(wire, version, is_flexible=is_flexible)
    return size


def _field_bytes_min(wire: Wire, version: int, *, is_flexible: bool) -> int:
    if wire.is_array:
        return 1 if is_flexible else 4
    return _item_bytes_min(wire, version, is_flexible=is_flexible)


def _item_bytes_min(wire: Wire, version: int, *, is_flexible: bool) -> int:
    if not isinstance(wire.kind, Scalar):
        if wire.is_nullable(version) and not wire.is_array:
            return 1
        return bytes_min(wire.kind, version, is_flexible=is_flexible)
    if wire.kind in FIXED:
        return FIXED[wire.kind]
    if wire.kind is Scalar.UUID:
        return 16
    if is_flexible and not wire.is_never_compact:
        return 1
    return 2 if wire.kind is Scalar.STRING else 4


def has_records(cls: type, version: int) -> bool:
    """Whether a decoded message keeps views into its frame."""
    for field in dataclasses.fields(cls):
        wire = wire_of(field)
        if wire.is_in(version) and (
            wire.kind is Scalar.RECORDS if isinstance(wire.kind, Scalar) else has_records(wire.kind, version)
        ):
            return True
    return False


def _failure(error: Exception, offset: int, size: int) -> DecodingError:
    if isinstance(error, UnicodeDecodeError):
        return DecodingError("text is not UTF-8", offset)
    if isinstance(error, IndexError | struct.error):
        return DecodingError(f"{size} bytes are too few", offset)
    return DecodingError(str(error), offset)


class _DecoderSource:
    """The lines of one decoder."""

    def __init__(self, version: int, *, is_flexible: bool, in_parts: bool) -> None:
        self.version = version
        self.is_flexible = is_flexible
        self.in_parts = in_parts
        self.lines: list[str] = []
        self.names: dict[str, object] = {
            "new": object.__new__,
            "uvarint": read_unsigned_varint,
            "skip_tags": skip_tags,
            "unpack_from": struct.unpack_from,
            "uuid_of": uuid_of,
            "failure": _failure,
            "StructError": struct.error,
        }
        self._count = 0

    def fresh(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def add(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def constant(self, value: object) -> str:
        """A name by which the generated function sees `value`."""
        name = self.fresh("D")
        self.names[name] = value
        return name

    def unpacker(self, letters: str) -> str:
        name = "unpack_" + letters.replace("?", "t")
        self.names[name] = struct.Struct(">" + letters).unpack_from
        return name

    def write_struct(self, cls: type, target: str, depth: int) -> None:
        """Lines that read a whole `cls` into the variable `target`."""
        name = f"{cls.__name__}_class"
        assert self.names.setdefault(name, cls) is cls
        self.add(depth, f"{target} = new({name})")
        run: list[tuple[str, Scalar]] = []
        tagged: list[tuple[str, Wire]] = []
        for field in dataclasses.fields(cls):
            wire, place = wire_of(field), f"{target}.{field.name}"
            if not wire.is_in(self.version) or wire.tag is not None:
                self.write_default(wire, place, depth)
                if wire.is_in(self.version):
                    tagged.append((place, wire))
            elif isinstance(wire.kind, Scalar) and wire.kind in FIXED and not wire.is_array:
                run.append((place, wire.kind))
            else:
                self.write_run(run, depth)
                self.write_field(wire, place, depth)
        self.write_run(run, depth)
        if self.is_flexible:
            self.write_tags(tagged, depth)

    def write_run(self, run: list[tuple[str, Scalar]], depth: int) -> None:
        """One unpack for a run of fixed-size fields; empties `run`."""
        if not run:
            return
        if [kind for _, kind in run] == [Scalar.INT8]:
            # An index into the buffer is the cheapest read there is, but it gives 0 to 255.
            self.add(depth, f"{run[0][0]} = (b[o] ^ 128) - 128; o += 1")
        else:
            letters = "".join(kind.value for _, kind in run)
            targets = "".join(f"{place}, " for place, _ in run)
            size = sum(FIXED[kind] for _, kind in run)
            self.add(depth, f"{targets}= {self.unpacker(letters)}(b, o); o += {size}")
        run.clear()

    def write_default(self, wire: Wire, place: str, depth: int) -> None:
        if isinstance(wire.default, list):
            self.add(depth, f"{place} = []")
        elif isinstance(wire.default, type):
            self.add(depth, f"{place} = {self.constant(wire.default)}()")
        else:
            self.add(depth, f"{place} = {self.constant(wire.default)}")

    def write_field(self, wire: Wire, place: str, depth: int) -> None:
        """Lines that read a field of any kind."""
        if wire.is_array:
            self.write_array(wire, place, depth)
        elif isinstance(wire.kind, Scalar):
            self.write_scalar(wire, place, depth, is_nullable=wire.is_nullable(self.version))
        elif wire.is_nullable(self.version):
            self.add(depth, f"if b[o] >= 128: {place} = None; o += 1")
            self.add(depth, "else:")
            self.add(depth + 1, "o += 1")
            self.write_nested(wire.kind, place, depth + 1)
        else:
            self.write_nested(wire.kind, place, depth)

    def write_nested(self, cls: type, place: str, depth: int) -> None:
        target = self.fresh("s")
        self.write_struct(cls, target, depth)
        self.add(depth, f"{place} = {target}")

    def write_length(self, depth: int, *, is_compact: bool, letter: str) -> str:
        """Lines that read a length (or -1 for null) into a variable, whose name is returned."""
        name = self.fresh("n")
        if is_compact:
            self.add(depth, f"{name} = b[o] - 1; o += 1")
            self.add(depth, f"if {name} > 126: {name}, o = uvarint(b, o - 1); {name} -= 1")
        else:
            size = 2 if letter == "h" else 4
            self.add(depth, f"{name}, = {self.unpacker(letter)}(b, o); o += {size}")
        return name

    def write_null(self, place: str, length: str, depth: int, *, is_nullable: bool) -> None:
        """Lines for a length below zero."""
        if is_nullable:
            self.add(depth, f"if {length} < 0: {place} = None")
        else:
            self.add(depth, f"if {length} < 0: raise ValueError('null where a value must be')")

    def write_array(self, wire: Wire, place: str, depth: int) -> None:
        length = self.write_length(depth, is_compact=self.is_flexible, letter="i")
        self.write_null(place, length, depth, is_nullable=wire.is_nullable(self.version))
        self.add(depth, "else:")
        item_bytes = _item_bytes_min(wire, self.version, is_flexible=self.is_flexible)
        assert item_bytes > 0
        self.add(depth + 1, f"left -= {length}")
        self.add(depth + 1, f"if {length} * {item_bytes} > size - o or left < 0:")
        self.add(depth + 2, f"raise ValueError(f'an array of {{{length}}} elements is too long')")
        if isinstance(wire.kind, Scalar) and wire.kind in FIXED:
            self.write_numbers(place, length, wire.kind, depth + 1)
            return
        items, item = self.fresh("a"), self.fresh("x")
        self.add(depth + 1, f"{items} = []")
        self.add(depth + 1, f"for _ in range({length}):")
        if isinstance(wire.kind, Scalar):
            self.write_scalar(wire, item, depth + 2, is_nullable=False)
        else:
            self.write_struct(wire.kind, item, depth + 2)
        self.add(depth + 2, f"{items}.append({item})")
        if self.in_parts:
            self.add(depth + 2, "part -= 1")
            self.add(depth + 2, "if part <= 0:")
            self.add(depth + 3, f"part = {ELEMENTS_A_PART}")
            self.add(depth + 3, "yield")
        self.add(depth + 1, f"{place} = {items}")

    def write_numbers(self, place: str, length: str, kind: Scalar, depth: int) -> None:
        """Lines that read an array of fixed-size values."""
        letter, size = kind.value, FIXED[kind]
        if not self.in_parts:
            self.add(depth, f"{place} = list(unpack_from(f'>{{{length}}}{letter}', b, o)); o += {size} * {length}")
            return
        numbers = self.fresh("a")
        self.add(depth, f"{numbers} = []")
        self.add(depth, f"while {length} > {NUMBERS_A_PART}:")
        self.add(depth + 1, f"{numbers} += unpack_from('>{NUMBERS_A_PART}{letter}', b, o)")
        self.add(depth + 1, f"o += {size * NUMBERS_A_PART}; {length} -= {NUMBERS_A_PART}")
        self.add(depth + 1, "yield")
        self.add(depth, f"{numbers} += unpack_from(f'>{{{length}}}{letter}', b, o); o += {size} * {length}")
        self.add(depth, f"{place} = {numbers}")

    def write_scalar(self, wire: Wire, place: str, depth: int, *, is_nullable: bool) -> None:
        kind = wire.kind
        assert isinstance(kind, Scalar)
        if kind in FIXED:
            self.add(depth, f"{place}, = {self.unpacker(kind.value)}(b, o); o += {FIXED[kind]}")
            return
        if kind is Scalar.UUID:
            self.add(depth, "if size - o < 16: raise IndexError")
            self.add(depth, f"{place} = uuid_of(bytes(b[o:o + 16])); o += 16")
            return
        is_compact = self.is_flexible and not wire.is_never_compact
        length = self.write_length(depth, is_compact=is_compact, letter="h" if kind is Scalar.STRING else "i")
        # Records may be null in every version: that is how an empty set of them is sent.
        self.write_null(place, length, depth, is_nullable=is_nullable or kind is Scalar.RECORDS)
        self.add(depth, "else:")
        end = self.fresh("e")
        self.add(depth + 1, f"{end} = o + {length}")
        self.add(depth + 1, f"if {end} > size: raise IndexError")
        if kind is Scalar.STRING:
            if is_compact:
                self.add(depth + 1, f"if {length} > {STRING_BYTES_MAX}: raise ValueError('text is too long')")
            self.add(depth + 1, f"{place} = str(b[o:{end}], 'utf-8'); o = {end}")
        elif kind is Scalar.BINARY:
            self.add(depth + 1, f"{place} = bytes(b[o:{end}]); o = {end}")
        else:
            self.add(depth + 1, f"{place} = b[o:{end}]; o = {end}")

    def write_tags(self, tagged: list[tuple[str, Wire]], depth: int) -> None:
        """Lines that read the tagged fields behind a struct and skip those nobody here knows."""
        self.add(depth, "if not b[o]: o += 1")
        if not tagged:
            self.add(depth, "else: o = skip_tags(b, o, size)")
            return
        count, tag, length, end = (self.fresh(letter) for letter in "ctne")
        self.add(depth, "else:")
        self.add(depth + 1, f"{count}, o = uvarint(b, o)")
        self.add(depth + 1, f"if {count} > {TAGS_MAX}: raise ValueError(f'{{{count}}} tagged fields are too many')")
        self.add(depth + 1, f"for _ in range({count}):")
        self.add(depth + 2, f"{tag}, o = uvarint(b, o)")
        self.add(depth + 2, f"{length}, o = uvarint(b, o)")
        self.add(depth + 2, f"{end} = o + {length}")
        self.add(depth + 2, f"if {end} > size: raise IndexError")
        for index, (place, wire) in enumerate(tagged):
            self.add(depth + 2, f"{'el' if index else ''}if {tag} == {wire.tag}:")
            self.write_field(wire, place, depth + 3)
            self.add(depth + 3, f"if o != {end}: raise ValueError(f'tagged field {{{tag}}} has another length')")
        self.add(depth + 2, f"else: o = {end}")


def decoder_source(cls: type[Message], version: int, *, in_parts: bool = False) -> tuple[str, dict[str, object]]:
    """The source of a decoder, and the names it is run with."""
    source = _DecoderSource(version, is_flexible=cls.is_flexible(version), in_parts=in_parts)
    source.write_struct(cls, "m", 2)
    buffer = "memoryview(b)" if has_records(cls, version) else "b if type(b) is bytes else bytes(b)"
    lines = ["def decode(b, o, left):", f"    b = {buffer}", "    size = len(b)"]
    if in_parts:
        lines += [f"    part = {ELEMENTS_A_PART}", "    if False: yield"]
    lines += ["    try:", *source.lines, "    except (IndexError, StructError, ValueError) as error:"]
    lines += ["        raise failure(error, o, size) from None"]
    lines += ["    return m, left" if in_parts else "    return m, o", ""]
    return "\n".join(lines), source.names


def compile_decoder(cls: type[Message], version: int) -> Callable[[bytes | memoryview, int, int], tuple[Any, int]]:
    """(buffer, offset, elements allowed) to (message, offset behind it); raises DecodingError."""
    decoder: Callable[[bytes | memoryview, int, int], tuple[Any, int]] = _compiled(cls, version, in_parts=False)
    return decoder


def compile_part_decoder(
    cls: type[Message], version: int
) -> Callable[[bytes | memoryview, int, int], Generator[None, None, tuple[Any, int]]]:
    """(buffer, offset, elements allowed) to (message, elements still allowed), in parts; raises DecodingError."""
    decoder: Callable[[bytes | memoryview, int, int], Generator[None, None, tuple[Any, int]]]
    decoder = _compiled(cls, version, in_parts=True)
    return decoder


def _compiled(cls: type[Message], version: int, *, in_parts: bool) -> Any:
    text, names = decoder_source(cls, version, in_parts=in_parts)
    exec(compile(text, f"<decoder of {cls.__name__} version {version}>", "exec"), names)
    return names["decode"]
