"""Idempotent producers, against a model that remembers everything."""

import dataclasses
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import Offset
from automq.partition import producer_state
from automq.partition.producer_state import PRODUCERS_MAX, AppendedBatch, ProducerState
from automq.protocol.errors import ApiError, ErrorCode
from tests.support import golden

LAST = 2**31 - 1


def record(
    state: ProducerState, producer: int, epoch: int, first: int, count: int, offset: int, *, now_ms: int = 0
) -> None:
    state.record(producer, epoch, first, count, first_offset=Offset(offset), append_time_ms=-1, now_ms=now_ms)


def refusal(state: ProducerState, producer: int, epoch: int, first: int, count: int = 1) -> ErrorCode:
    with pytest.raises(ApiError) as caught:
        state.check(producer, epoch, first, count)
    return caught.value.code


def test_unknown_producer_may_begin_anywhere() -> None:
    assert ProducerState().check(1, 0, 4711, 3) is None


def test_batch_refused_for_room_comes_first_of_an_unknown_producer() -> None:
    state = ProducerState()
    state.expect(1, 0, 4711, now_ms=5)
    state.expect(1, 0, 4714, now_ms=6)

    assert refusal(state, 1, 0, 4714) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert state.check(1, 0, 4711, 3) is None


def test_batch_refused_for_room_changes_nothing_for_a_known_producer() -> None:
    state = ProducerState()
    record(state, 1, 0, 0, 3, 100)
    state.expect(1, 0, 3, now_ms=5)
    state.expect(1, 1, 0, now_ms=5)

    assert state.check(1, 0, 3, 1) is None
    assert state.check(1, 0, 0, 3) == AppendedBatch(0, 2, Offset(100), -1)
    assert state.check(1, 1, 0, 1) is None


def test_batch_refused_for_room_comes_first_after_records_were_lost() -> None:
    state = ProducerState()
    record(state, 1, 0, 0, 3, 100)
    state.forget_sequences(Offset(200))
    state.expect(1, 0, 9, now_ms=5)

    assert refusal(state, 1, 0, 10) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert state.check(1, 0, 9, 1) is None


def test_producer_that_wrote_nothing_is_not_in_the_checkpoint_and_is_forgotten() -> None:
    state = ProducerState()
    state.expect(1, 0, 4711, now_ms=0)

    assert payload_of(state) == payload_of(ProducerState())
    assert refusal(state, 1, 0, 0) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert list(state.expire(1000, 1000)) == []
    assert state.check(1, 0, 0, 1) is None


def test_first_batches_that_were_refused_for_room_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_state, "EXPECTED_MAX", 2)
    state = ProducerState()
    for producer in range(3):
        state.expect(producer, 0, 7, now_ms=0)

    assert state.check(0, 0, 0, 1) is None
    assert refusal(state, 2, 0, 0) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_next_sequence_is_taken() -> None:
    state = ProducerState()
    record(state, 1, 0, 0, 3, 100)

    assert state.check(1, 0, 3, 1) is None


def test_same_sequences_are_a_duplicate_with_the_first_offset() -> None:
    state = ProducerState()
    record(state, 1, 0, 0, 3, 100)
    record(state, 1, 0, 3, 2, 103)

    assert state.check(1, 0, 0, 3) == AppendedBatch(0, 2, Offset(100), -1)


def test_part_of_a_batch_is_no_duplicate() -> None:
    state = ProducerState()
    record(state, 1, 0, 0, 3, 100)

    assert refusal(state, 1, 0, 0, 2) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert refusal(state, 1, 0, 1, 2) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_only_five_batches_are_remembered() -> None:
    state = ProducerState()
    for number in range(6):
        record(state, 1, 0, number, 1, number)

    assert state.check(1, 0, 1, 1) is not None
    assert refusal(state, 1, 0, 0) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_gap_is_out_of_order() -> None:
    state = ProducerState()
    record(state, 1, 0, 0, 1, 0)

    assert refusal(state, 1, 0, 2) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_older_epoch_is_fenced() -> None:
    state = ProducerState()
    record(state, 1, 5, 0, 1, 0)

    assert refusal(state, 1, 4, 1) == ErrorCode.INVALID_PRODUCER_EPOCH


def test_newer_epoch_begins_at_zero() -> None:
    state = ProducerState()
    record(state, 1, 0, 0, 1, 0)

    assert refusal(state, 1, 1, 1) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert state.check(1, 1, 0, 1) is None


def test_newer_epoch_forgets_the_batches_of_the_older_one() -> None:
    state = ProducerState()
    record(state, 1, 0, 0, 1, 0)
    record(state, 1, 1, 0, 2, 1)

    assert refusal(state, 1, 1, 0, 1) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert state.check(1, 1, 0, 2) == AppendedBatch(0, 1, Offset(1), -1)


def test_sequence_zero_follows_the_last_one() -> None:
    state = ProducerState()
    record(state, 1, 0, LAST, 1, 0)

    assert state.check(1, 0, 0, 1) is None
    assert refusal(state, 1, 0, 1) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_batch_may_wrap_around() -> None:
    state = ProducerState()
    record(state, 1, 0, LAST - 1, 5, 0)

    assert state.check(1, 0, LAST - 1, 5) == AppendedBatch(LAST - 1, 2, Offset(0), -1)
    assert state.check(1, 0, 3, 1) is None


def test_silent_producers_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_state, "EXPIRED_A_TURN", 1)
    state = ProducerState()
    record(state, 1, 0, 0, 1, 0, now_ms=1000)
    record(state, 2, 0, 0, 1, 1, now_ms=1500)

    assert len(list(state.expire(2000, 1000))) == 1, "a turn each"
    assert state.get(1) is None
    assert state.get(2) is not None


def test_b13_one_producer_too_many_takes_the_place_of_the_most_silent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PRODUCERS_MAX > 1000
    monkeypatch.setattr(producer_state, "PRODUCERS_MAX", 2)
    state = ProducerState()
    for number, now_ms in enumerate([30, 10, 20]):
        record(state, number, 0, 0, 1, 0, now_ms=now_ms)

    assert sorted(entry.producer_id for entry in state) == [0, 2]


def test_b13_a_flood_of_producers_takes_no_more_than_their_number() -> None:
    state = ProducerState()
    for number in range(PRODUCERS_MAX + 5_000):
        record(state, number, 0, 0, 1, number, now_ms=number)

    assert len(state) == PRODUCERS_MAX
    assert state.get(0) is None
    assert state.entries.size == PRODUCERS_MAX * 43


def payload_of(state: ProducerState, number: int = 1) -> bytes:
    captured = state.entries.capture(number)
    return producer_state.payload_head(len(captured)) + b"".join(captured.entries())


def restored(*payloads: bytes) -> ProducerState:
    state = ProducerState()
    for number, payload in enumerate(payloads, start=1):
        for _ in state.restore(payload, number=number):
            pass
    return state


def a_golden_state() -> ProducerState:
    state = ProducerState()
    record(state, 4000, 1, LAST, 2, 17, now_ms=1_700_000_000_000)
    state.record(4001, 0, 0, 1, first_offset=Offset(19), append_time_ms=1_700_000_000_001, now_ms=1_700_000_000_002)
    return state


def test_format_of_a_piece() -> None:
    state = a_golden_state()
    first = payload_of(state)
    record(state, 4002, 0, 7, 1, 20)
    state.entries.delete(4000)

    golden.check_bytes("partition/producers_piece.hex", first)
    golden.check_bytes("partition/producers_next_piece.hex", payload_of(state, 2))


def test_what_earlier_programs_wrote_is_read() -> None:
    whole = bytes.fromhex((golden.GOLDEN_FOLDER / "partition/producers.hex").read_text())
    assert whole[0] == 1
    assert list(restored(whole)) == list(a_golden_state())


@pytest.mark.parametrize("cut", [0, 4, 20, 60])
def test_a_payload_that_is_cut_is_noticed(cut: int) -> None:
    with pytest.raises(struct.error):
        restored(payload_of(a_golden_state())[:cut])


def test_unknown_format_is_refused() -> None:
    data = bytearray(payload_of(ProducerState()))
    data[0] = 9

    with pytest.raises(ValueError, match="upgrade"):
        restored(bytes(data))


@dataclasses.dataclass
class Sent:
    epoch: int
    first: int
    count: int
    offset: int


class Model:
    """Every batch of every producer, and the rules word by word."""

    def __init__(self) -> None:
        self.sent: dict[int, list[Sent]] = {}

    def judge(self, producer: int, epoch: int, first: int, count: int) -> str | int | None:
        sent = self.sent.get(producer, [])
        if not sent:
            return None
        current = sent[-1].epoch
        for batch in [batch for batch in sent if batch.epoch == current][-5:]:
            if (epoch, first, count) == (batch.epoch, batch.first, batch.count):
                return batch.offset
        if epoch < current:
            return "INVALID_PRODUCER_EPOCH"
        expected = 0 if epoch > current else (sent[-1].first + sent[-1].count) % 2**31
        return None if first == expected else "OUT_OF_ORDER_SEQUENCE_NUMBER"


SEQUENCES = st.one_of(st.integers(0, 6), st.integers(LAST - 3, LAST))


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 2), st.one_of(st.none(), SEQUENCES), st.integers(1, 3)), max_size=40
    )
)
def test_state_judges_as_the_model_does_whether_kept_or_restored(steps: list[tuple[int, int, int | None, int]]) -> None:
    state, model = ProducerState(), Model()
    pieces: list[bytes] = []
    offset = 0
    for producer, epoch, sequence, count in steps:
        sent = model.sent.get(producer, [])
        # Most batches continue where the last one ended.
        continuing = (sent[-1].first + sent[-1].count) % 2**31 if sent and sent[-1].epoch == epoch else 0
        first = continuing if sequence is None else sequence
        expected = model.judge(producer, epoch, first, count)
        pieces.append(payload_of(state, len(pieces) + 1))
        for candidate in (state, restored(*pieces)):
            try:
                found = candidate.check(producer, epoch, first, count)
                actual: str | int | None = None if found is None else found.first_offset
            except ApiError as error:
                actual = error.code.name
            assert actual == expected
        if expected is None:
            record(state, producer, epoch, first, count, offset)
            model.sent.setdefault(producer, []).append(Sent(epoch, first, count, offset))
            offset += count
