"""The checker sees what it is there to see."""

import pytest

from tests.sim.history import History, judge
from tests.support.batches import Batch


def a_history(*, acknowledged=((0, 2), (2, 3))):
    """One producer, one partition: batches of (first number, count), acknowledged at offsets alike."""
    history = History(1)
    for first, count in acknowledged:
        sent = history.send("p", 0, count)
        assert sent.first == first
        history.acknowledge(sent, first)
    return history


def a_log(*numbers):
    return [f"p/0/{number}".encode() for number in numbers]


def judged(history, log, *, start=0, end=None):
    judge(history, starts=[start], ends=[start + len(log) if end is None else end], logs=[log])
    return history.violations


def a_batch(base, *numbers):
    return Batch(
        base_offset=base,
        leader_epoch=0,
        timestamp_ms=0,
        producer_id=0,
        producer_epoch=0,
        base_sequence=0,
        is_control=False,
        values=tuple(a_log(*numbers)),
    )


def test_a_good_log_is_good():
    assert judged(a_history(), a_log(0, 1, 2, 3, 4)) == []


def test_an_unacknowledged_batch_may_be_there_or_not():
    history = a_history()
    history.send("p", 0, 2)
    assert judged(history, a_log(0, 1, 2, 3, 4)) == []
    assert judged(history, a_log(0, 1, 2, 3, 4, 5, 6)) == []


@pytest.mark.parametrize(
    ("log", "what"),
    [
        (a_log(0, 1, 2, 3), "missing"),
        (a_log(0, 1, 2, 3, 4, 4), "duplicate"),
        (a_log(0, 1, 3, 2, 4), "was p/0/2 and is p/0/3"),
        (a_log(0, 1, 2, 3, 4, 5), "never sent"),
        ([*a_log(0, 1, 2, 3, 4), b"q/0/0"], "sent none"),
        (a_log(1, 2, 3, 4), "missing"),
    ],
)
def test_a_bad_log_is_bad(log, what):
    assert any(what in violation for violation in judged(a_history(), log))


def test_a_hole_is_seen():
    assert any("records in offsets" in violation for violation in judged(a_history(), a_log(0, 1, 2, 3, 4), end=6))


def test_what_was_deleted_on_request_need_not_be_there():
    history = a_history()
    history.trims[0] = 3
    assert judged(history, a_log(2, 3, 4), start=2) == []
    assert judged(history, a_log(4), start=4) != []


def test_a_trimmed_log_keeps_what_follows_what_it_has():
    history = a_history()
    history.trims[0] = 3
    history.acknowledge(history.send("p", 0, 1), None)
    assert judged(history, a_log(3, 4, 5), start=3) == []
    assert "record 5 was acknowledged and is missing" in judged(history, a_log(3, 4), start=3)[0]


def test_a_trimmed_log_keeps_what_was_sent_when_it_was_as_long_as_that():
    history = a_history()
    history.trims[0] = 5
    history.saw_high_watermark(0, 5)
    history.acknowledge(history.send("q", 0, 2), None)
    log = [b"q/0/0", b"q/0/1"]
    assert judged(history, log, start=5) == []
    assert "records from 0 to 1 are missing" in judged(history, log[1:], start=5)[0]
    history.violations.clear()
    assert "record 1 was acknowledged and is missing" in judged(history, [], start=5)[0]


def test_what_a_reader_saw_must_stay():
    history = a_history()
    assert history.read(0, 5, a_batch(5, 5), reader="r") == 6
    assert "offset 5 was p/0/5 and is nothing" in judged(history, a_log(0, 1, 2, 3, 4))[0]


def test_a_reader_may_begin_inside_a_batch_but_not_skip():
    history = a_history()
    assert history.read(0, 1, a_batch(0, 0, 1), reader="r") == 2
    assert history.violations == []
    history.read(0, 2, a_batch(3, 3, 4), reader="r")
    assert "jumps from 2 to 3" in history.violations[0]


def test_one_offset_is_given_once():
    history = a_history()
    history.acknowledge(history.send("q", 0, 1), 4)
    assert "offset 4 is q/0/0, and was p/0/4" in history.violations[0]


def test_high_watermark_is_a_promise():
    history = a_history()
    history.saw_high_watermark(0, 7)
    assert "saw the high watermark 7" in judged(history, a_log(0, 1, 2, 3, 4))[0]


def test_committed_offsets_do_not_go_back():
    history = a_history()
    history.commit("g", 0, 3)
    history.saw_commit("g", 0, 3, at_least=history.committed["g", 0])
    assert history.violations == []
    history.saw_commit("g", 0, 2, at_least=history.committed["g", 0])
    assert "went from 3 to 2" in history.violations[0]
