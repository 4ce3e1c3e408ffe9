"""Pure: the answer to a request that failed as a whole, as Kafka's `getErrorResponse` gives one for every API.

Where the response has an error code of its own in the request's version, that is set. Else every part that was asked
for gets the code: the response is walked beside the request, whose parts give the names. A part of the response stands
beside the field of the same name or, where the schema gives the two other names, beside the one array the request has
at that level (`resources` beside `results`, `topic_names` beside `responses`).
"""

import dataclasses
import functools
from collections.abc import Hashable
from typing import Any, Final

from automq.protocol.schema import Message, Scalar, Wire, wire_of
from automq.steps import Steps

# About how long it takes to fill one part.
PART_US: Final = 6

ERROR_CODE: Final = "error_code"
ERROR_MESSAGE: Final = "error_message"
_EMPTY: Final[dict[Any, object]] = {Scalar.STRING: "", Scalar.BINARY: b""}


def error_response_in_parts(
    response_class: type[Message], request: Message, version: int, *, code: int, message: str | None
) -> Steps[Message]:
    """`response_class` filled with `code`, at the top or for each part of `request`: it may have very many."""
    response = response_class()
    yield from _fill(response, request, version, code, message)
    return response


def _fill(target: Any, asked: Any, version: int, code: int, message: str | None) -> Steps[None]:
    """Copy what identifies `asked` into `target`, then the error, here or in the parts below."""
    fields = _fields(_class(target), version)
    if dataclasses.is_dataclass(asked):
        for name in fields.keys() & _fields(_class(asked), version).keys():
            if not fields[name].is_array and isinstance(fields[name].kind, Scalar):
                setattr(target, name, getattr(asked, name))
    else:
        setattr(target, _key_name(_class(target), version), asked)
    for name, wire in fields.items():
        if getattr(target, name) is None and not wire.is_nullable(version):
            # The default is null, which older versions cannot say.
            setattr(target, name, [] if wire.is_array else _EMPTY[wire.kind])
    if ERROR_CODE in fields:
        target.error_code = code
        if ERROR_MESSAGE in fields:
            target.error_message = message
        return
    for name, wire in fields.items():
        if wire.is_array and isinstance(wire.kind, type) and _has_code(wire.kind, version):
            parts: list[Any] = []
            setattr(target, name, parts)
            for part_asked in _counterpart(asked, name, version):
                part = wire.kind()
                yield from _fill(part, part_asked, version, code, message)
                parts.append(part)
                yield PART_US


def error_codes(response: Message, version: int, *, parts_max: int) -> list[int]:
    """The error codes in an answer that are errors, looked for in at most `parts_max` of its parts."""
    codes: list[int] = []
    waiting: list[Any] = [response]
    seen = 0
    while waiting and seen < parts_max:
        part = waiting.pop()
        seen += 1
        code = getattr(part, ERROR_CODE, 0)
        if code:
            codes.append(code)
        for name in _arrays_with_codes(_class(part), version):
            waiting.extend((getattr(part, name) or ())[:parts_max])
    return codes


@functools.cache
def _arrays_with_codes(kind: Hashable, version: int) -> tuple[str, ...]:
    """The arrays of `kind` whose parts have error codes, in them or below."""
    return tuple(
        name
        for name, wire in _fields(kind, version).items()
        if wire.is_array and isinstance(wire.kind, type) and _has_code(wire.kind, version)
    )


def _counterpart(asked: Any, name: str, version: int) -> list[Any]:
    """The parts of `asked` that the response's array `name` answers; none where the request named none."""
    arrays = [field for field, wire in _fields(_class(asked), version).items() if wire.is_array]
    found = name if name in arrays else arrays[0] if len(arrays) == 1 else None
    return [] if found is None else getattr(asked, found) or []


def _class(value: Any) -> Any:
    return type(value)


@functools.cache
def _fields(kind: Hashable, version: int) -> dict[str, Wire]:
    """The fields that `version` has, by name."""
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        return {}
    return {field.name: wire for field in dataclasses.fields(kind) if (wire := wire_of(field)).is_in(version)}


@functools.cache
def _has_code(kind: Hashable, version: int) -> bool:
    """Whether an error code can be said in `kind` or below it."""
    fields = _fields(kind, version)
    return ERROR_CODE in fields or any(
        isinstance(wire.kind, type) and _has_code(wire.kind, version) for wire in fields.values()
    )


@functools.cache
def _key_name(kind: Hashable, version: int) -> str:
    """The field that takes a part that was named by a bare value."""
    return next(
        name
        for name, wire in _fields(kind, version).items()
        if name not in (ERROR_CODE, ERROR_MESSAGE) and isinstance(wire.kind, Scalar) and not wire.is_array
    )
