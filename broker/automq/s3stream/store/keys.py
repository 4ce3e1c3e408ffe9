"""Pure: which keys a store takes, so that all adapters take the same ones."""

import re
from typing import Final

# S3 allows 1024 bytes, of which the prefix of the store's URI needs some.
KEY_BYTES_MAX: Final = 800
# A file system's limit for one name.
SEGMENT_BYTES_MAX: Final = 255
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_=+@:,~-][A-Za-z0-9_=+@:,~.-]*")


class InvalidKey(ValueError):
    """A key that no store takes: the caller's mistake, never the store's state."""


def check_key(key: str) -> str:
    """`key` itself. Raises InvalidKey for empty segments, segments that begin with a dot, and unusual characters."""
    if len(key) > KEY_BYTES_MAX:
        raise InvalidKey(f"the key {key[:40]!r}... is {len(key)} bytes long; at most {KEY_BYTES_MAX} are allowed")
    for segment in key.split("/"):
        if len(segment) > SEGMENT_BYTES_MAX or not _SEGMENT.fullmatch(segment):
            raise InvalidKey(
                f"{segment!r} cannot be a part of the key {key!r}: parts are letters, digits and _=+@:,~.-, do not "
                f"begin with a dot and have 1 to {SEGMENT_BYTES_MAX} bytes"
            )
    return key


def check_deletable(key: str) -> str:
    """`key` itself, if a listing can have shown it: what others have put into a prefix is to be removed, too.

    Raises InvalidKey for what would name the prefix itself or something outside of it.
    """
    if not key or key.startswith("/") or any(part in (".", "..") for part in key.split("/")):
        raise InvalidKey(f"{key!r} is no key of an object below the prefix")
    return key
