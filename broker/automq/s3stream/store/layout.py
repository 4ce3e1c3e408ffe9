"""Pure: which keys lie in a prefix, as one strict pattern for each folder. Whatever matches none is a stranger's.

    cluster                                             whose prefix it is
    doctor/<milliseconds, 13>-<hexadecimal>/...         what the doctor writes and sweeps
    <cluster id>/erasing                                an erase is under way, or did not end
    <cluster id>/meta/lease                             the controller's sign of life
    <cluster id>/meta/claims/<epoch, 20>                claims to the metadata log
    <cluster id>/meta/log/<epoch, 20>/<sequence, 20>    its slots
    <cluster id>/meta/snapshots/<epoch, 20>-<sequence, 20>
    <cluster id>/wal/<node, 10>/<epoch, 10>/<sequence, 20>
    <cluster id>/data/<object id, 16 hexadecimal digits, the last one first>

Numbers are decimal digits of fixed width, so that keys sort as numbers do. Consoles leave folder markers and editors
copies in a prefix: no name of those is a key of ours, however much of one it contains.
"""

import enum
import re
from dataclasses import dataclass
from typing import Final

from automq.ids import ClusterId

CLUSTER_KEY: Final = "cluster"
DOCTOR_FOLDER: Final = "doctor/"
NUMBER_MAX: Final = 2**64 - 1


class KeyKind(enum.Enum):
    """What a key of ours names. The words are those of `automq dump`."""

    CLUSTER = "cluster"
    DOCTOR = "doctor"
    ERASING = "erasing"
    LEASE = "lease"
    CLAIM = "claim"
    METADATA_SLOT = "metadata slot"
    SNAPSHOT = "snapshot"
    WAL_SLOT = "WAL slot"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """A key of ours: what it names, in which cluster's folder, and the numbers in it, in their order."""

    kind: KeyKind
    cluster_id: ClusterId | None
    numbers: tuple[int, ...]


# Kafka's cluster ids; tests and simulations name theirs more freely. The header of a slot has room for 22 bytes.
_FOLDER: Final = r"(?P<cluster>[A-Za-z0-9_-]{1,22})/"
_BY_KIND: Final = {
    KeyKind.CLUSTER: re.compile(CLUSTER_KEY),
    KeyKind.DOCTOR: re.compile(DOCTOR_FOLDER + r"([0-9]{13})-[0-9a-f]+/.+", re.DOTALL),
    KeyKind.ERASING: re.compile(_FOLDER + "erasing"),
    KeyKind.LEASE: re.compile(_FOLDER + "meta/lease"),
    KeyKind.CLAIM: re.compile(_FOLDER + "meta/claims/([0-9]{20})"),
    KeyKind.METADATA_SLOT: re.compile(_FOLDER + "meta/log/([0-9]{20})/([0-9]{20})"),
    KeyKind.SNAPSHOT: re.compile(_FOLDER + "meta/snapshots/([0-9]{20})-([0-9]{20})"),
    KeyKind.WAL_SLOT: re.compile(_FOLDER + "wal/([0-9]{10})/([0-9]{10})/([0-9]{20})"),
    KeyKind.OBJECT: re.compile(_FOLDER + "data/([0-9a-f]{16})"),
}


def parse_key(key: str) -> ParsedKey | None:
    """What `key` names; None for a stranger."""
    for kind in _BY_KIND:
        parsed = parse_key_of(kind, key)
        if parsed is not None:
            return parsed
    return None


def parse_key_of(kind: KeyKind, key: str) -> ParsedKey | None:
    """What `key` names if that is of `kind`, else None."""
    match = _BY_KIND[kind].fullmatch(key)
    if match is None:
        return None
    groups = match.groups()
    cluster = match.groupdict().get("cluster")
    digits = groups if cluster is None else groups[1:]
    numbers: tuple[int, ...] = tuple(map(int, digits)) if kind is not KeyKind.OBJECT else (int(digits[0][::-1], 16),)
    if any(number > NUMBER_MAX for number in numbers):
        return None
    return ParsedKey(kind, None if cluster is None else ClusterId(cluster), numbers)


def is_folder_marker(key: str, size: int) -> bool:
    """Whether this is what consoles put where a folder is to be shown: nothing, under a name that ends in a slash.

    The marker of the prefix itself has the empty name.
    """
    return size == 0 and (key == "" or key.endswith("/"))
