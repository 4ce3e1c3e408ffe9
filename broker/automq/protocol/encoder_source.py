"""Writes the source of encoders, one function for each (class, version), and compiles it.

The generated function gets the message `m` and the bytearray `out`, and appends. Runs of fixed-size fields, and the
zero that says "no tagged fields", become one `struct` call.

One that encodes in parts is a generator: it yields after every so many structs of arrays, and takes those that are
encoded out of the message, so that a million of them are not freed at one go either.
"""

import dataclasses
import struct
from collections.abc import Callable
from typing import Any, Final

from automq.binary import write_unsigned_varint
from automq.protocol.decoder_source import FIXED
from automq.protocol.schema import Scalar, Wire, wire_of

# Structs of arrays that are encoded in one part: each takes a microsecond or two.
STRUCTS_A_PART: Final = 500


class EncodingError(Exception):
    """What an encoder raises; `codec` adds which message it was."""


class _EncoderSource:
    """The lines of one encoder."""

    def __init__(self, version: int, *, is_flexible: bool, in_parts: bool) -> None:
        self.version = version
        self.in_parts = in_parts
        self.is_flexible = is_flexible
        self.lines: list[str] = []
        self.names: dict[str, object] = {
            "uvarint": write_unsigned_varint,
            "pack": struct.pack,
            "pack_h": struct.Struct(">h").pack,
            "pack_i": struct.Struct(">i").pack,
            "EncodingError": EncodingError,
        }
        self._run: list[tuple[str, str]] = []
        self._count = 0

    def fresh(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def add(self, depth: int, line: str) -> None:
        self.flush(depth)
        self.lines.append("    " * depth + line)

    def flush(self, depth: int) -> None:
        """Write the run of fixed-size values that waits."""
        if not self._run:
            return
        letters = "".join(letter for letter, _ in self._run)
        values = ", ".join(value for _, value in self._run)
        self._run.clear()
        if letters == "B":
            self.lines.append("    " * depth + f"out.append({values})")
            return
        name = "pack_" + letters.replace("?", "t")
        self.names[name] = struct.Struct(">" + letters).pack
        self.lines.append("    " * depth + f"out += {name}({values})")

    def constant(self, value: object) -> str:
        name = self.fresh("D")
        self.names[name] = value
        return name

    def write_struct(self, cls: type, value: str, depth: int) -> None:
        """Lines that append the struct in `value`."""
        tagged: list[tuple[str, Wire]] = []
        for field in dataclasses.fields(cls):
            wire, place = wire_of(field), f"{value}.{field.name}"
            if not wire.is_in(self.version):
                if not wire.ignorable:
                    self.write_refusal(wire, place, depth)
            elif wire.tag is not None:
                tagged.append((place, wire))
            else:
                self.write_field(wire, place, depth)
        if not self.is_flexible:
            return
        if tagged:
            self.write_tags(tagged, depth)
        else:
            self._run.append(("B", "0"))

    def not_default(self, wire: Wire, place: str) -> str:
        """The condition that a field has another value than its default."""
        if isinstance(wire.default, list):
            return f"{place} != []"
        if wire.default is None:
            return f"{place} is not None"
        default = wire.default() if isinstance(wire.default, type) else wire.default
        return f"{place} != {self.constant(default)}"

    def write_refusal(self, wire: Wire, place: str, depth: int) -> None:
        """A version that lacks a field that matters refuses every value but the default."""
        self.add(depth, f"if {self.not_default(wire, place)}:")
        self.add(
            depth + 1, f"raise EncodingError('{place.partition('.')[2]} has a value, the version has no such field')"
        )

    def write_field(self, wire: Wire, place: str, depth: int) -> None:
        """Lines that append a field of any kind."""
        is_nullable = wire.is_nullable(self.version)
        if wire.is_array:
            self.write_array(wire, place, depth, is_nullable=is_nullable)
        elif isinstance(wire.kind, Scalar):
            self.write_scalar(wire, place, depth, is_nullable=is_nullable)
        elif is_nullable:
            nested = self.fresh("s")
            self.add(depth, f"{nested} = {place}")
            self.add(depth, f"if {nested} is None: out.append(255)")
            self.add(depth, "else:")
            self.add(depth + 1, "out.append(1)")
            self.write_struct(wire.kind, nested, depth + 1)
            self.flush(depth + 1)
        else:
            nested = self.fresh("s")
            self.add(depth, f"{nested} = {place}")
            self.write_struct(wire.kind, nested, depth)

    def write_length(self, length: str, depth: int, *, is_compact: bool, letter: str) -> None:
        if is_compact:
            self.add(depth, f"if {length} < 127: out.append({length} + 1)")
            self.add(depth, f"else: uvarint(out, {length} + 1)")
        else:
            self.add(depth, f"out += pack_{letter}({length})")

    def write_null(self, value: str, depth: int, *, is_nullable: bool, is_compact: bool, letter: str) -> int:
        """Lines for a value that may be None; returns the depth at which the rest goes on."""
        if not is_nullable:
            return depth
        null = "out.append(0)" if is_compact else f"out += pack_{letter}(-1)"
        self.add(depth, f"if {value} is None: {null}")
        self.add(depth, "else:")
        return depth + 1

    def write_array(self, wire: Wire, place: str, depth: int, *, is_nullable: bool) -> None:
        items, length = self.fresh("a"), self.fresh("n")
        self.add(depth, f"{items} = {place}")
        depth = self.write_null(items, depth, is_nullable=is_nullable, is_compact=self.is_flexible, letter="i")
        self.add(depth, f"{length} = len({items})")
        self.write_length(length, depth, is_compact=self.is_flexible, letter="i")
        if isinstance(wire.kind, Scalar) and wire.kind in FIXED:
            self.add(depth, f"if {length}: out += pack(f'>{{{length}}}{wire.kind.value}', *{items})")
            return
        item = self.fresh("x")
        is_struct_in_parts = self.in_parts and not isinstance(wire.kind, Scalar)
        index = self.fresh("i")
        if is_struct_in_parts:
            self.add(depth, f"for {index}, {item} in enumerate({items}):")
        else:
            self.add(depth, f"for {item} in {items}:")
        if isinstance(wire.kind, Scalar):
            self.write_scalar(wire, item, depth + 1, is_nullable=False)
        else:
            self.write_struct(wire.kind, item, depth + 1)
        self.flush(depth + 1)
        if is_struct_in_parts:
            self.add(depth + 1, f"{items}[{index}] = {item} = None")
            self.add(depth + 1, "left -= 1")
            self.add(depth + 1, "if left <= 0:")
            self.add(depth + 2, f"left = {STRUCTS_A_PART}")
            self.add(depth + 2, "yield")

    def write_scalar(self, wire: Wire, place: str, depth: int, *, is_nullable: bool) -> None:
        kind = wire.kind
        assert isinstance(kind, Scalar)
        if kind in FIXED:
            self._run.append((kind.value, place))
            return
        if kind is Scalar.UUID:
            self._run.append(("16s", f"{place}.bytes"))
            return
        is_compact, letter = self.is_flexible and not wire.is_never_compact, "h" if kind is Scalar.STRING else "i"
        value, length = self.fresh("v"), self.fresh("n")
        self.add(depth, f"{value} = {place}")
        # Records may be null in every version: that is how an empty set of them is sent.
        is_nullable = is_nullable or kind is Scalar.RECORDS
        depth = self.write_null(value, depth, is_nullable=is_nullable, is_compact=is_compact, letter=letter)
        if kind is Scalar.STRING:
            self.add(depth, f"{value} = {value}.encode()")
        self.add(depth, f"{length} = len({value})")
        self.write_length(length, depth, is_compact=is_compact, letter=letter)
        self.add(depth, f"out += {value}")

    def write_tags(self, tagged: list[tuple[str, Wire]], depth: int) -> None:
        """Lines that append the tagged fields that have another value than their default, in order of their tags."""
        parts, outer = self.fresh("t"), self.fresh("w")
        tagged.sort(key=lambda pair: pair[1].tag or 0)
        conditions = " or ".join(self.not_default(wire, place) for place, wire in tagged)
        self.add(depth, f"if {conditions}:")
        self.add(depth + 1, f"{parts} = []")
        self.add(depth + 1, f"{outer} = out")
        for place, wire in tagged:
            self.add(depth + 1, f"if {self.not_default(wire, place)}:")
            self.add(depth + 2, "out = bytearray()")
            self.write_field(wire, place, depth + 2)
            self.add(depth + 2, f"{parts}.append(({wire.tag}, out))")
        self.add(depth + 1, f"out = {outer}")
        self.add(depth + 1, f"uvarint(out, len({parts}))")
        self.add(depth + 1, f"for tag, data in {parts}:")
        self.add(depth + 2, "uvarint(out, tag)")
        self.add(depth + 2, "uvarint(out, len(data))")
        self.add(depth + 2, "out += data")
        self.add(depth, "else: out.append(0)")


def encoder_source(
    cls: type, version: int, *, is_flexible: bool, in_parts: bool = False
) -> tuple[str, dict[str, object]]:
    """The source of an encoder, and the names it is run with."""
    source = _EncoderSource(version, is_flexible=is_flexible, in_parts=in_parts)
    if in_parts:
        source.add(1, f"left = {STRUCTS_A_PART}")
        source.add(1, "if not left: yield")
    source.write_struct(cls, "m", 1)
    source.flush(1)
    return "\n".join(["def encode(m, out):", *(source.lines or ["    pass"]), ""]), source.names


def compile_encoder(cls: type, version: int, *, is_flexible: bool, in_parts: bool = False) -> Callable[..., Any]:
    """Appends a message, or a struct that is a part of one, to a bytearray: `(message, bytearray)`.

    With `in_parts` it returns a generator. Raises EncodingError for what the version cannot say.
    """
    text, names = encoder_source(cls, version, is_flexible=is_flexible, in_parts=in_parts)
    exec(compile(text, f"<encoder of {cls.__name__} version {version}>", "exec"), names)
    encoder: Callable[..., Any] = names["encode"]  # type: ignore[assignment]
    return encoder
