"""Leader epochs and where they end, against a list of what every epoch wrote."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import Offset
from automq.partition import leader_epochs
from automq.partition.leader_epochs import NO_EPOCH_END, LeaderEpochs
from tests.support import golden


def epochs(*entries: tuple[int, int]) -> LeaderEpochs:
    result = LeaderEpochs()
    for epoch, start in entries:
        result.assign(epoch, Offset(start))
    return result


def test_current_epoch_ends_at_the_end_of_the_log() -> None:
    assert epochs((3, 0), (5, 10)).end_of(5, Offset(17)) == (5, 17)


def test_older_epoch_ends_where_the_next_one_begins() -> None:
    assert epochs((3, 0), (5, 10)).end_of(3, Offset(17)) == (3, 10)


def test_epoch_that_wrote_nothing_ends_with_the_one_before() -> None:
    assert epochs((3, 0), (5, 10)).end_of(4, Offset(17)) == (3, 10)


def test_epoch_before_all_ends_where_the_first_one_begins() -> None:
    assert epochs((3, 4), (5, 10)).end_of(1, Offset(17)) == (1, 4)


def test_future_and_undefined_epochs_have_no_end() -> None:
    assert epochs((3, 0)).end_of(4, Offset(17)) == NO_EPOCH_END
    assert epochs((3, 0)).end_of(-1, Offset(17)) == NO_EPOCH_END
    assert LeaderEpochs().end_of(0, Offset(0)) == NO_EPOCH_END


def test_epoch_without_writes_leaves_no_trace() -> None:
    assert epochs((3, 0), (4, 10), (5, 10)).entries() == [(3, 0), (5, 10)]


def test_known_epoch_is_assigned_once() -> None:
    assert epochs((3, 0), (3, 5), (2, 7)).entries() == [(3, 0)]


def test_trimmed_epochs_are_forgotten() -> None:
    result = epochs((1, 0), (2, 10), (3, 20))
    result.trim(Offset(15))

    assert result.entries() == [(2, 15), (3, 20)]
    result.trim(Offset(20))
    assert result.entries() == [(3, 20)]


def test_epoch_of_an_offset() -> None:
    result = epochs((1, 5), (2, 10))

    assert [result.epoch_of(offset) for offset in (4, 5, 9, 10, 99)] == [-1, 1, 1, 2, 2]


def test_number_of_epochs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_epochs, "EPOCHS_MAX", 2)

    assert epochs((1, 0), (2, 1), (3, 2)).entries() == [(2, 1), (3, 2)]


def test_format_of_the_checkpoint() -> None:
    golden.check_bytes("partition/leader_epochs.hex", epochs((0, 0), (7, 2**40)).encode())


def test_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="upgrade"):
        LeaderEpochs.decode(b"\x09" + bytes(4))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=20), st.integers(-1, 45))
def test_end_is_one_past_the_last_offset_written_up_to_the_epoch(steps: list[tuple[int, int]], asked: int) -> None:
    result = LeaderEpochs()
    written: list[int] = []
    epoch = 0
    for more_epochs, writes in steps:
        epoch += more_epochs
        result.assign(epoch, Offset(len(written)))
        written += [epoch] * writes
    restored = LeaderEpochs.decode(result.encode())
    assert restored.entries() == result.entries()
    end = restored.end_of(asked, Offset(len(written)))
    if asked < 0 or not steps or asked > epoch:
        assert end == NO_EPOCH_END
    elif asked == epoch:
        assert end == (epoch, len(written))
    else:
        assert end.end_offset == sum(1 for of in written if of <= asked)
        assert end.epoch <= asked
    for offset, of in enumerate(written):
        assert restored.epoch_of(offset) == of
