"""Pure: JSON with a checksum, for the few keys that people read and a decision rests on.

The checksum is one field more: the CRC-32C of the other fields, written without blanks and with sorted names. What was
written before there were checksums has none; whoever reads it decides what that is worth.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from crc32c import crc32c

CHECKSUM_FIELD: Final = "crc32c"


class NotSealed(ValueError):
    """The bytes are no JSON object, or not what the checksum was made of."""


def seal(fields: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """The fields and their checksum as JSON; with `indent` on several lines."""
    sealed = {**fields, CHECKSUM_FIELD: _checksum(fields)}
    return json.dumps(sealed, indent=indent).encode()


def unseal(data: bytes) -> tuple[dict[str, Any], bool]:
    """The fields, and whether a checksum vouches for them. Raises NotSealed."""
    try:
        fields = json.loads(data)
    except ValueError as error:
        raise NotSealed(f"no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise NotSealed("no JSON object")
    checksum = fields.pop(CHECKSUM_FIELD, None)
    if checksum is not None and checksum != _checksum(fields):
        raise NotSealed("the checksum is another's")
    return fields, checksum is not None


def _checksum(fields: Mapping[str, Any]) -> str:
    return f"{crc32c(json.dumps(fields, sort_keys=True, separators=(',', ':')).encode()):08x}"
