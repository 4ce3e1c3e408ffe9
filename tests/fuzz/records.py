"""Records as they lie in a batch, and what a fuzzer makes of them."""

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from automq.protocol.records import HEADER_BYTES, Record, build_batch

NOW_MS: Final = 1_700_000_000_000
INT64: Final = (-(1 << 63), (1 << 63) - 1)
# Numbers at the borders of bytes, of 32 and of 64 bits, and what is no number.
NUMBERS: Final = tuple(
    bytes.fromhex(text)
    for text in (
        "00",
        "01",
        "02",
        "03",
        "7f",
        "8000",
        "8100",
        "ff01",
        "ff7f",
        "808001",
        "ffffff7f",
        "ffffffff07",
        "ffffffff0f",
        "ffffffff1f",
        "ffffffffff01",
        "ffffffffffffffff7f",
        "ffffffffffffffffff01",
        "feffffffffffffffff01",
        "ffffffffffffffffff02",
        "ffffffffffffffffffff01",
        "80808080808080808000",
        "8080808000",
        "808080808000",
    )
)


class Walk(NamedTuple):
    """The arguments of `walk_records`."""

    data: bytes
    first: int
    stop: int
    position: int
    base_timestamp: int
    earliest_ms: int
    latest_ms: int
    needs_keys: bool


def sound(dice: random.Random) -> tuple[bytes, int]:
    """Well-formed records, and how many."""
    records = [
        Record(
            key=None if dice.random() < 0.4 else dice.randbytes(dice.choice((0, 1, 5, 63, 64, 130))),
            value=None if dice.random() < 0.2 else dice.randbytes(dice.choice((0, 1, 10, 63, 64, 200))),
            timestamp=NOW_MS + dice.choice((0, 0, 1, -1, 63, 64, 100_000, -(1 << 40))),
            headers=[
                (dice.choice(("", "h", "ä€𐍈", "n" * 70)), None if dice.random() < 0.3 else dice.randbytes(3))
                for _ in range(dice.choice((0, 0, 0, 1, 3)))
            ],
        )
        for _ in range(dice.choice((1, 1, 2, 3, 8, 70)))
    ]
    return bytes(build_batch(records)[HEADER_BYTES:]), len(records)


def damaged(data: bytes, dice: random.Random) -> bytes:
    """One to three things changed."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 3))):
        at = dice.randrange(len(changed) + 1)
        match dice.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << dice.randrange(8)
            case 1 if at < len(changed):
                changed[at] = dice.randrange(256)
            case 2:
                del changed[at : at + dice.choice((1, 1, 2, 5, 50))]
            case 3:
                changed[at:at] = dice.choice(NUMBERS)
            case 4:
                number = dice.choice(NUMBERS)
                changed[at : at + len(number)] = number
            case 5:
                changed[at : at + 1] = dice.choice(NUMBERS)
            case _:
                end = dice.randrange(len(changed) + 1)
                changed[at:at] = changed[end : end + dice.choice((1, 7, 40))]
    return bytes(changed)


def walks(seed: int) -> Iterator[Walk]:
    """Without end: each one differs a little from something sound."""
    dice = random.Random(seed)
    while True:
        whole, count = sound(dice)
        for round_ in range(40):
            data = whole if round_ == 0 else damaged(whole, dice)
            base = dice.choice((NOW_MS, NOW_MS, NOW_MS, -1, 0, *INT64))
            bounds = dice.choice((INT64, (0, NOW_MS), (NOW_MS - 10, NOW_MS + 10), (NOW_MS, INT64[1])))
            stop = max(0, count + dice.choice((0, 0, 0, 1, -1, 1 << 31)))
            first = dice.choice((0, 0, 0, 0, 1)) if stop else 0
            position = dice.choice((0, 0, 0, 0, dice.randrange(len(data) + 1)))
            yield Walk(data, first, stop, position, base, *bounds, needs_keys=dice.random() < 0.2)
