"""Pure: records as lines of text and of JSON, both ways: what `consume --json` writes, `produce --json` reads."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from automq.cli.failures import CommandFailed
from automq.cli.sending import Outgoing
from automq.protocol.records import Record

Headers = Sequence[tuple[str, bytes | None]]


def parse_line(
    line: bytes, number: int, *, separator: bytes | None, partition: int | None, headers: Headers
) -> Outgoing:
    """A record of a line of text. Raises CommandFailed for a line without the separator."""
    if separator is None:
        return Outgoing(value=line, partition=partition, headers=headers)
    key, found, value = line.partition(separator)
    if not found:
        raise CommandFailed(f"line {number} has no {separator.decode(errors='replace')!r}; what was before it is sent")
    return Outgoing(key=key, value=value, partition=partition, headers=headers)


def parse_json_line(line: bytes, number: int, *, partition: int | None, headers: Headers) -> Outgoing:
    """A record of a line of JSON. Raises CommandFailed."""
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict):
            raise TypeError("it is no object")
        own = [(str(each["name"]), _bytes_of(each, "value")) for each in fields.get("headers", [])]
        chosen = fields.get("partition", partition) if partition is None else partition
        if chosen is not None and not isinstance(chosen, int):
            raise TypeError("its partition is no number")
        return Outgoing(
            key=_bytes_of(fields, "key"), value=_bytes_of(fields, "value"), headers=[*headers, *own], partition=chosen
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CommandFailed(f"line {number} is no record in JSON: {error}; what was before it is sent") from error


def _bytes_of(fields: Mapping[str, Any], name: str) -> bytes | None:
    """`name` as text, or `name_base64` as bytes; neither is null."""
    if f"{name}_base64" in fields:
        return base64.b64decode(fields[f"{name}_base64"], validate=True)
    value = fields.get(name)
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def record_fields(topic: str, partition: int, record: Record) -> dict[str, object]:
    """A record as JSON has it; bytes that are no text are in base64."""
    fields: dict[str, object] = {
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        **_text_of("key", record.key),
        **_text_of("value", record.value),
    }
    if record.headers:
        fields["headers"] = [{"name": name, **_text_of("value", value)} for name, value in record.headers]
    return fields


def _text_of(name: str, data: bytes | memoryview | None) -> dict[str, object]:
    if data is None:
        return {name: None}
    try:
        return {name: bytes(data).decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}
