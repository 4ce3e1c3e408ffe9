"""Records as they lie in a batch, and what a fuzzer makes of them."""

import random
from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

from automq.binary import crc32c, write_unsigned_varint
from automq.protocol.compression import Compression
from automq.protocol.records import CRC_START, HEADER_BYTES, LENGTH_END, Record, build_batch
from automq.s3stream.wal.format import RECORD_HEADER_BYTES

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


class Take(NamedTuple):
    """The arguments of `take_batch`, but for the buffer that is written to: its size, or None for none."""

    records: bytes
    out_bytes: int | None
    position: int
    base_offset: int
    leader_epoch: int
    bytes_max: int
    earliest_ms: int
    latest_ms: int
    needs_keys: bool
    walks: bool


class Place(NamedTuple):
    """The arguments of `place_received`, but for the buffer that is written to: its size."""

    data: bytes
    start: int
    stop: int
    out_bytes: int
    position: int
    stream: int
    epoch: int
    base_offset: int
    bytes_max: int
    records_max: int
    earliest_ms: int
    latest_ms: int
    needs_keys: bool
    walks: bool
    mark_ms: int
    slot_crc: int


class Scan(NamedTuple):
    """The arguments of `scan_produce`."""

    data: bytes
    start: int
    end: int
    frame_bytes_max: int
    client: bytes


class Gather(NamedTuple):
    """Batches as the log cache has them, and which of them are asked for."""

    places: "array[int]"
    start: int
    stop: int
    arenas: list[memoryview]
    bytes_max: int
    total: int

    @property
    def measure(self) -> tuple["array[int]", int, int, int, int]:
        """The arguments of `measure_batches`."""
        return self.places, self.start, self.stop, self.bytes_max, min(self.bytes_max, max(0, self.total))

    @property
    def gather(self) -> tuple["array[int]", int, int, list[memoryview], int]:
        """The arguments of `gather_batches`."""
        return self.places, self.start, self.stop, self.arenas, self.total


class Find(NamedTuple):
    """The arguments of `find_batch`."""

    data: bytes
    position: int


def some_records(dice: random.Random) -> list[Record]:
    """A few, now and then many."""
    return [
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


def sound(dice: random.Random) -> tuple[bytes, int]:
    """Well-formed records, and how many."""
    records = some_records(dice)
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


def a_batch(dice: random.Random) -> bytearray:
    """One batch that may be appended, but for its time."""
    records = some_records(dice)
    if dice.random() < 0.1:
        # Long enough to be summed and copied in blocks.
        records.append(Record(value=dice.randbytes(dice.choice((3000, 9000, 20_000))), timestamp=NOW_MS))
    is_idempotent = dice.random() < 0.5
    return build_batch(
        records,
        compression=dice.choice((Compression.NONE,) * 6 + (Compression.GZIP, Compression.LZ4)),
        producer_id=dice.choice((0, 7, 1 << 40)) if is_idempotent else -1,
        producer_epoch=dice.choice((0, 1, 0x7FFF)) if is_idempotent else -1,
        base_sequence=dice.choice((0, 1, 0x7FFF_FFFF)) if is_idempotent else -1,
    )


# Where the fields of a header begin, and their sizes.
FIELDS: Final = (
    (0, 8),
    (8, 4),
    (12, 4),
    (16, 1),
    (17, 4),
    (21, 2),
    (23, 4),
    (27, 8),
    (35, 8),
    (43, 8),
    (51, 2),
    (53, 4),
    (57, 4),
)


def damaged_batch(batch: bytearray, dice: random.Random) -> bytearray:
    """Its header or records changed, mostly with a length and a checksum that agree with that again."""
    if dice.random() < 0.5:
        at, size = dice.choice(FIELDS)
        value = dice.choice(
            (0, 1, 2, 4, 5, 8, 16, 32, 64, (1 << 8 * size) - 1, 1 << (8 * size - 1), dice.randrange(1 << 8 * size))
        )
        batch[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "big")
    else:
        batch[HEADER_BYTES:] = damaged(bytes(batch[HEADER_BYTES:]), dice)
    if dice.random() < 0.1:
        del batch[dice.randrange(len(batch)) :]
    if dice.random() < 0.9 and len(batch) >= HEADER_BYTES:
        batch[8:LENGTH_END] = (len(batch) - LENGTH_END).to_bytes(4, "big")
        batch[17:CRC_START] = crc32c(memoryview(batch)[CRC_START:]).to_bytes(4, "big")
    return batch


def takes(seed: int) -> Iterator[Take]:
    """Without end: each one differs a little from what is taken."""
    dice = random.Random(seed)
    while True:
        batch = a_batch(dice)
        for round_ in range(20):
            records = bytes(batch) if round_ < 2 else bytes(damaged_batch(bytearray(batch), dice))
            position = dice.choice((0, 1, 16, 57))
            room = dice.choice((0, 0, 0, 100, -1))
            yield Take(
                records,
                None if dice.random() < 0.2 else max(0, position + len(records) + room),
                position,
                base_offset=dice.choice((0, 5, 1 << 50)),
                leader_epoch=dice.choice((0, 3, 0x7FFF_FFFF)),
                bytes_max=dice.choice((1 << 20, 1 << 20, 1 << 20, len(records) - 1)),
                earliest_ms=dice.choice((INT64[0], INT64[0], NOW_MS - 5)),
                latest_ms=dice.choice((INT64[1], NOW_MS + 100_000)),
                needs_keys=dice.random() < 0.1,
                walks=dice.random() < 0.8,
            )


def places(seed: int) -> Iterator[Place]:
    """As `takes`: batches somewhere in a receive buffer."""
    dice = random.Random(seed)
    for take in takes(seed):
        before, behind = dice.randbytes(dice.choice((0, 0, 3, 40))), dice.randbytes(dice.choice((0, 0, 9)))
        data = before + take.records + behind
        start, stop = len(before), len(before) + len(take.records)
        if dice.random() < 0.02:
            start, stop = dice.choice(((start, len(data) + 1), (-1, stop), (stop, start), (len(data), len(data))))
        room = dice.choice((0, 0, 0, 100, -1, -44))
        position = dice.choice((0, 0, 16, 57, -1))
        yield Place(
            data,
            start,
            stop,
            max(0, position + RECORD_HEADER_BYTES + len(take.records) + room),
            position,
            stream=dice.choice((0, 3, 1 << 62)),
            epoch=take.leader_epoch,
            base_offset=take.base_offset,
            bytes_max=take.bytes_max,
            records_max=dice.choice((1 << 31, 1 << 31, 3)),
            earliest_ms=take.earliest_ms,
            latest_ms=take.latest_ms,
            needs_keys=take.needs_keys,
            walks=take.walks,
            mark_ms=-(1 << 62),
            slot_crc=dice.randrange(1 << 32),
        )


def a_produce_frame(dice: random.Random, client: bytes) -> bytes:
    """Mostly of the common shape."""
    version = dice.choice((9, 10, 12, 13, 13, 8, 14))
    topic = dice.randbytes(16) if version >= 13 else dice.choice((b"\x02t", b"\x07orders", b"\x7f" + b"n" * 126))
    records = dice.randbytes(dice.choice((0, 1, 61, 126, 127, 128, 129, 16_382, 16_383, 16_384)))
    length = bytearray()
    write_unsigned_varint(length, len(records) + 1)
    body = b"".join(
        (
            dice.choice((0, 0, 0, 0, 0, 0, 0, 1)).to_bytes(2, "big"),
            version.to_bytes(2, "big"),
            dice.randbytes(4),
            client,
            bytes(2),
            dice.choice((-1, -1, 1, 0, 2)).to_bytes(2, "big", signed=True),
            dice.randbytes(4),
            b"\x02",
            topic,
            b"\x02",
            dice.choice((0, 7, 1 << 30)).to_bytes(4, "big"),
            length,
            records,
            bytes(3),
        )
    )
    return len(body).to_bytes(4, "big") + body


def scans(seed: int) -> Iterator[Scan]:
    """Without end: frames, and what is nearly one."""
    dice = random.Random(seed)
    while True:
        client = dice.choice((b"\xff\xff", b"\x00\x00", b"\x00\x05bench"))
        whole = a_produce_frame(dice, client)
        for round_ in range(10):
            frame = whole
            if round_ > 2:
                # Where everything is that is looked at: the front, and the end.
                cut = dice.choice((len(whole), 60))
                frame = damaged(whole[:cut], dice) + whole[cut:]
                if dice.random() < 0.8:
                    frame = (len(frame) - 4).to_bytes(4, "big", signed=True) + frame[4:] if len(frame) >= 4 else frame
            before, behind = bytes(dice.choice((0, 0, 7))), bytes(dice.choice((0, 0, 30)))
            data = before + frame + behind
            start = dice.choice((len(before), len(before), len(before), 0, -1, len(data)))
            end = len(data) + dice.choice((0, 0, 0, -1, 1, -len(behind)))
            frame_bytes_max = dice.choice((1 << 20, 1 << 20, 1 << 20, len(frame) - 4, max(0, len(frame) - 5)))
            yield Scan(data, start, end, frame_bytes_max, dice.choice((client, client, client, b"\x00\x01x")))


def gathers(seed: int) -> Iterator[Gather]:
    """Without end: mostly batches that are where they should be."""
    dice = random.Random(seed)
    while True:
        arenas = [memoryview(dice.randbytes(dice.choice((0, 50, 300)))) for _ in range(dice.choice((1, 2, 5)))]
        places, sizes = array("q"), []
        for _ in range(dice.choice((0, 1, 5, 20))):
            number = dice.randrange(len(arenas))
            size = dice.randrange(min(60, len(arenas[number])) + 1)
            position = dice.randrange(len(arenas[number]) - size + 1)
            if dice.random() < 0.03:
                number, position, size = dice.choice(
                    ((1023, position, size), (number, (1 << 26) - 1, size), (number, position, (1 << 27) - 1))
                )
            sizes.append(size)
            places.append((number << 53) + (position << 27) + size)
        start = dice.randrange(len(places) + 1)
        stop = dice.randrange(start, len(places) + 1)
        total = sum(sizes[start:stop])
        if dice.random() < 0.1:
            start, stop = dice.choice(((start, len(places) + 1), (-1, stop), (stop, start), (start, -1)))
        if total < 1 << 20 and dice.random() < 0.1:
            total = dice.choice((total + 1, total - 1, 0, -1))
        yield Gather(places, start, stop, arenas, dice.choice((0, 10, 100, 1 << 30)), min(total, 1 << 20))


class Match(NamedTuple):
    """The arguments of `match_fetch`."""

    data: bytes
    frame: bytes
    epoch_at: int


def matches(seed: int) -> Iterator[Match]:
    """Without end: a frame, and what is nearly the same."""
    dice = random.Random(seed)
    while True:
        frame = dice.randbytes(dice.choice((0, 11, 12, 15, 16, 17, 40, 90)))
        for _ in range(5):
            data = (
                damaged(frame, dice) if frame and dice.random() < 0.7 else frame + dice.randbytes(dice.choice((0, 3)))
            )
            yield Match(data, frame, dice.choice((12, len(frame) - 4, dice.randrange(-2, 99))))


def finds(seed: int) -> Iterator[Find]:
    """Without end: batches, one after another, and what is nearly that."""
    dice = random.Random(seed)
    while True:
        sizes = [dice.choice((0, 1, 49, 300)) for _ in range(dice.choice((1, 2, 9)))]
        data = b"".join(bytes(8) + size.to_bytes(4, "big") + dice.randbytes(size) for size in sizes)
        for round_ in range(5):
            changed = data if round_ < 2 else damaged(data, dice)
            yield Find(changed, dice.choice((0, len(changed) - 1, len(changed), -1, dice.randrange(len(changed) + 1))))
