"""States, reasons and the last line."""

import json

import pytest

from automq.server.lifecycle.states import (
    EXIT_CODES,
    HEALING,
    MEANINGS,
    Event,
    ExitCode,
    Lifecycle,
    Reason,
    Refused,
    State,
    termination_message,
)


def test_start_leads_to_serving_and_stop_to_draining() -> None:
    lifecycle = Lifecycle()

    for event in (Event.REGISTERED, Event.RECOVERED, Event.STOP_ASKED):
        lifecycle.move(event, "next")

    assert lifecycle.state is State.DRAINING


def test_waiting_shows_its_reason_and_healing_clears_it() -> None:
    lifecycle = Lifecycle()

    lifecycle.move(Event.BLOCKED, "no answer", Reason.STORE_UNREACHABLE)
    assert (lifecycle.state, lifecycle.reason) == (State.WAITING, Reason.STORE_UNREACHABLE)
    lifecycle.move(Event.HEALED, "the store answers again")

    assert (lifecycle.state, lifecycle.reason) == (State.STARTING, None)


@pytest.mark.parametrize("state", list(State))
def test_every_state_can_be_fenced_once(state: State) -> None:
    lifecycle = Lifecycle()
    lifecycle.state = state

    assert lifecycle.can(Event.FENCED) == (state not in (State.FENCED, State.DAMAGED))


@pytest.mark.parametrize("state", list(State))
def test_damage_ends_every_state_that_may_acknowledge(state: State) -> None:
    lifecycle = Lifecycle()
    lifecycle.state = state

    assert lifecycle.can(Event.DAMAGED) == (state not in (State.FENCED, State.DAMAGED))


def test_illegal_move_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        Lifecycle().move(Event.RECOVERED, "too early")


def test_serving_keeps_its_state_while_a_reason_comes_and_goes() -> None:
    lifecycle = Lifecycle()
    lifecycle.move(Event.REGISTERED, "")
    lifecycle.move(Event.RECOVERED, "serving")
    seen: list[Reason | None] = []
    lifecycle.subscribe(lambda: seen.append(lifecycle.reason))

    lifecycle.set_reason("the store fails", Reason.STORE_UNREACHABLE)
    lifecycle.set_reason("the store fails", Reason.STORE_UNREACHABLE)
    lifecycle.set_reason("serving")

    assert seen == [Reason.STORE_UNREACHABLE, None]
    assert lifecycle.state is State.SERVING


def test_every_reason_has_an_exit_code_and_a_meaning() -> None:
    assert set(EXIT_CODES) == set(MEANINGS) == set(Reason)


def test_the_stores_reasons_end_with_3() -> None:
    ending = set(Reason) - HEALING
    assert {reason for reason in ending if EXIT_CODES[reason] is ExitCode.STORE} == {
        Reason.STORE_UNSUITABLE,
        Reason.STORE_OWNED_BY_ANOTHER,
        Reason.STORE_CLUSTER_MISSING,
        Reason.STORE_FORMAT_TOO_NEW,
        Reason.CLUSTER_IN_USE,
    }
    assert Refused(Reason.ADDRESS_IN_USE, "taken").exit_code == 4
    assert Refused(Reason.FENCED, "fenced").exit_code == 5
    assert Refused(Reason.INVALID_SETTINGS, "wrong").exit_code == 2
    assert Refused(Reason.STORE_DAMAGED, "missing").exit_code == 6


def test_termination_message_is_one_line_of_json() -> None:
    line = termination_message(Reason.FENCED, "a newer\nprocess")

    assert "\n" not in line
    assert json.loads(line) == {"reason": "Fenced", "message": "a newer process"}
    assert json.loads(termination_message(None, "a bug"))["reason"] is None
