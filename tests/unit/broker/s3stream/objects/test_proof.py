"""What is damaged in an object, and whom it concerns: every byte, every page of the index, and both at once."""

from collections.abc import Iterator

import pytest
from crc32c import crc32c

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.s3stream.model import CorruptData, FormatTooNew
from automq.s3stream.objects import format as objects
from automq.s3stream.objects.format import (
    BLOCK_HEAD_BYTES,
    ENTRY_BYTES,
    FOOTER,
    FOOTER_BYTES,
    HEADER_BYTES,
    BlockKind,
    IndexEntry,
    decode_footer,
)
from automq.s3stream.objects.index import whole_index
from automq.s3stream.objects.proof import DamagedPart, ObjectDamage, Share, find_damage
from automq.s3stream.objects.writer import ObjectWriter
from tests.support.old_objects import OldObjectWriter

CLUSTER = ClusterId("ODgzMTQ5OTI3NjE0NTU2Mg")
ID = ObjectId(9)
PAGE = 3
"""Entries of a page of the index in these objects."""
STREAMS = {1: 1, 2: 7, 3: 2, 5: 1, 6: 1}
"""How many blocks each has."""
LARGE = {2, 6}
"""Streams that are found by the index alone."""
WITH_CHECKPOINT = (2, 5)

Hidden = set[tuple[int, int, int]]


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PAGE_ENTRIES", PAGE)


def an_object(writer: ObjectWriter | OldObjectWriter) -> bytes:
    for stream, blocks in STREAMS.items():
        for number in range(blocks):
            start = 100 * stream + 10 * number
            batches = []
            for at in range(2):
                body = bytes((stream, number, at)) * (5 + at)
                batches.append((start + 4 * at, 3, 1_000 + start, crc32c(body), memoryview(body)))
            writer.add_block(StreamId(stream), batches)
        if stream in WITH_CHECKPOINT:
            piece = b"state of " + bytes((stream,))
            writer.add_checkpoint(StreamId(stream), Offset(100 * stream + 70), [piece], crc=crc32c(piece))
    return b"".join(bytes(buffer) for buffer in writer.finish())


def entries_of(data: bytes) -> list[IndexEntry]:
    view = memoryview(data)
    footer = decode_footer("key", view, size=len(data), cluster_id=CLUSTER, object_id=ID)
    return list(whole_index("key", view, footer).entries())


def shares_of(data: bytes, *, are_placed: bool = True) -> list[Share]:
    shares = []
    for stream in STREAMS:
        blocks = [entry for entry in entries_of(data) if (entry.stream, entry.kind) == (stream, BlockKind.DATA)]
        shares.append(
            Share(
                stream=StreamId(stream),
                start=blocks[0].start,
                end=blocks[-1].end,
                position=blocks[0].position if are_placed else 0,
                size=sum(entry.size for entry in blocks),
                needs_index=not are_placed or stream in LARGE,
            )
        )
    return shares


def flipped(data: bytes, *places: int) -> bytes:
    changed = bytearray(data)
    for at in places:
        changed[at] ^= 0x20
    return bytes(changed)


def damage_of(data: bytes, shares: list[Share]) -> list[ObjectDamage]:
    return find_damage(CLUSTER, ID, memoryview(data), shares)


def hidden_by(damages: list[ObjectDamage]) -> Hidden:
    return {(stream, start, end) for damage in damages for stream, start, end in damage.hidden}


def within(parts: Hidden) -> set[tuple[int, int]]:
    """Every offset of them."""
    return {(stream, offset) for stream, start, end in parts for offset in range(start, end)}


def index_at(data: bytes) -> int:
    return len(data) - FOOTER_BYTES - root_bytes(data) - len(entries_of(data)) * ENTRY_BYTES


def root_bytes(data: bytes) -> int:
    return decode_footer("key", memoryview(data), size=len(data), cluster_id=CLUSTER, object_id=ID).size


def pages(data: bytes) -> Iterator[tuple[int, list[IndexEntry]]]:
    """Where each page begins, and what it has."""
    found = entries_of(data)
    for number in range(0, len(found), PAGE):
        yield index_at(data) + number * ENTRY_BYTES, found[number : number + PAGE]


def records(entries: list[IndexEntry]) -> set[tuple[int, int]]:
    """The first offset of each block: gaps between blocks belong to nobody."""
    return {(entry.stream, entry.start) for entry in entries if entry.kind is BlockKind.DATA}


def test_whole_object_has_no_damage() -> None:
    data = an_object(ObjectWriter(CLUSTER, ID))
    assert len(entries_of(data)) > 4 * PAGE
    assert damage_of(data, shares_of(data)) == []


def test_every_flipped_byte_is_found_and_hides_what_it_holds_and_no_more() -> None:
    data = an_object(ObjectWriter(CLUSTER, ID))
    shares, entries = shares_of(data), entries_of(data)
    of_page = {at: held for begin, held in pages(data) for at in range(begin, begin + len(held) * ENTRY_BYTES)}
    large = {(entry.stream, entry.start) for entry in entries if entry.stream in LARGE}
    for at in range(len(data)):
        damages = damage_of(flipped(data, at), shares)
        (damage,) = damages
        if at < HEADER_BYTES:
            assert (damage.part, damage.hidden) == (DamagedPart.HEADER, ())
            continue
        block = next((entry for entry in entries if entry.position <= at < entry.position + entry.size), None)
        if block is not None:
            head_end = block.position + BLOCK_HEAD_BYTES
            if block.kind is BlockKind.DATA and head_end - 4 <= at < head_end:
                # The index has the same checksum.
                assert (damage.part, damage.hidden) == (DamagedPart.HEADER, ())
                continue
            part = DamagedPart.CHECKPOINT if block.kind is BlockKind.CHECKPOINT else DamagedPart.DATA
            assert (damage.part, damage.hidden) == (part, ((block.stream, block.start, block.end),)), at
            continue
        assert damage.part is DamagedPart.INDEX
        lost = records(of_page.get(at, entries)) & large
        assert within(hidden_by(damages)) & records(entries) == lost, at


def test_damaged_page_of_the_index_names_its_blocks_alone() -> None:
    data = an_object(ObjectWriter(CLUSTER, ID))
    seen = 0
    for begin, held in pages(data):
        (damage,) = damage_of(flipped(data, begin + 5), shares_of(data))
        assert (damage.part, damage.error.offset) == (DamagedPart.INDEX, begin)
        assert {stream for stream, _, _ in damage.hidden} == {entry.stream for entry in held} & {
            stream for stream, _ in records(held) if stream in LARGE
        }
        seen += bool(damage.hidden)
    assert 0 < seen < len(list(pages(data)))


@pytest.mark.parametrize("at_head", [True, False])
def test_block_that_a_lost_page_described_is_checked_all_the_same(at_head: bool) -> None:
    data = an_object(ObjectWriter(CLUSTER, ID))
    for begin, held in pages(data):
        for block in held:
            if block.kind is not BlockKind.DATA:
                continue
            at = block.position + (9 if at_head else block.size - 1)
            found = damage_of(flipped(data, begin, at), shares_of(data))
            of_data = [damage for damage in found if damage.part is DamagedPart.DATA]
            (damage,) = of_data
            assert (damage.error.offset, damage.error.length) == (block.position, block.size)
            # A head that is damaged says nothing: what lies between its neighbours is named.
            ((stream, start, end),) = damage.hidden
            assert (stream, start <= block.start, end >= block.end) == (block.stream, True, True)
            assert within(hidden_by(of_data)) & records(entries_of(data)) == records([block])


def test_whole_index_that_is_lost_leaves_every_block_proven() -> None:
    data = an_object(ObjectWriter(CLUSTER, ID))
    begin = index_at(data)
    lost = data[:begin] + bytes(len(data) - begin)
    (damage,) = damage_of(lost, shares_of(data))
    assert damage.part is DamagedPart.INDEX
    assert {stream for stream, _, _ in damage.hidden} == LARGE


def test_blocks_of_another_object_prove_nothing() -> None:
    data = an_object(ObjectWriter(CLUSTER, ID))
    other = an_object(ObjectWriter(CLUSTER, ObjectId(10)))
    found = damage_of(other, shares_of(data))
    of_data = [damage for damage in found if damage.part is DamagedPart.DATA]
    assert within(hidden_by(of_data)) >= records(entries_of(data))


def test_emptied_and_cut_objects_hide_all_that_is_gone() -> None:
    data = an_object(ObjectWriter(CLUSTER, ID))
    shares, entries = shares_of(data), entries_of(data)
    for size in (0, 1, HEADER_BYTES, entries[4].position + BLOCK_HEAD_BYTES, len(data) - 1):
        found = damage_of(data[:size], shares)
        gone = [entry for entry in entries if entry.position + entry.size > size]
        of_data = [damage for damage in found if damage.part is DamagedPart.DATA]
        assert within(hidden_by(of_data)) & records(entries) == records(gone)
        assert [damage.part for damage in found].count(DamagedPart.INDEX) == 1


def test_objects_of_version_1_have_one_page_which_hides_all() -> None:
    data = an_object(OldObjectWriter(CLUSTER, ID))
    shares = shares_of(data, are_placed=False)
    assert damage_of(data, shares) == []
    block = entries_of(data)[3]
    (damage,) = damage_of(flipped(data, block.position + block.size - 1), shares)
    assert damage.hidden == ((block.stream, block.start, block.end),)
    for at in (len(data) - FOOTER_BYTES - 1, len(data) - 1):
        (damage,) = damage_of(flipped(data, at), shares)
        assert hidden_by([damage]) == {(share.stream, share.start, share.end) for share in shares}


def test_object_of_a_later_version_is_none_of_ours() -> None:
    data = an_object(ObjectWriter(CLUSTER, ID))
    fields = list(FOOTER.unpack(data[-FOOTER_BYTES:-4]))
    fields[5] = objects.VERSION + 1
    footer = FOOTER.pack(*fields)
    later = data[:-FOOTER_BYTES] + footer + crc32c(footer).to_bytes(4, "big")
    with pytest.raises(FormatTooNew):
        damage_of(later, shares_of(data))


def test_entry_that_points_outside_is_damage() -> None:
    data = an_object(ObjectWriter(CLUSTER, ID))
    begin, (block, *_) = next(iter(pages(data)))
    root = data[len(data) - FOOTER_BYTES - root_bytes(data) : -FOOTER_BYTES]
    index = bytearray(data[begin : begin + len(entries_of(data)) * ENTRY_BYTES])
    block.position = len(data)
    index[:ENTRY_BYTES] = objects.encode_entry(block)
    root = objects.encode_root(index)
    footer = objects.encode_footer(CLUSTER, ID, position=begin + len(index), root=root)
    found = damage_of(data[:begin] + bytes(index) + root + footer, shares_of(data))
    assert [damage.part for damage in found] == [DamagedPart.INDEX]
    assert isinstance(found[0].error, CorruptData)
