"""The rules of several brokers, and how each is taken out."""

from typing import Any

from tests.sim.rules import Rule, does_nothing, returns, without

RELEASE = "automq.controller.release_check:"


def _always_permitted(original: Any) -> Any:
    from automq.controller.election import Event

    return lambda answers, hearing: Event.PERMITTED


CLUSTER_RULES: tuple[Rule, ...] = (
    Rule(
        "release: where it was sealed",
        "Reassignment: a stream is released only if it ends, behind all ranges of the commit, where it was sealed.",
        (RELEASE + "is_whole",),
        returns(True),
        "released_short_of_its_seal",
    ),
    Rule(
        "release: the current move",
        "Reassignment: a release is for the stream's current move.",
        (RELEASE + "is_current_move",),
        returns(True),
        "released_for_a_move_that_was_given_up",
    ),
    Rule(
        "release: by its owner",
        "Reassignment: only the incarnation that is the move's source, and owns the stream, releases it.",
        (RELEASE + "is_released_by_owner",),
        returns(True),
        "released_by_a_stranger",
    ),
    Rule(
        "release: to one that stays",
        "Reassignment: the target of a release is the current incarnation of its node, alive, and does not stop.",
        (RELEASE + "is_target_alive",),
        returns(True),
        "released_to_one_that_stops",
    ),
    Rule(
        "sessions: silence of most",
        "Liveness: where most sessions expire together the controller proves that it leads, and waits one more.",
        ("automq.controller.sessions:Sessions._is_mass",),
        returns(False),
        "controller_hears_nobody_for_a_while",
    ),
    Rule(
        "end: of one that leads nothing",
        "Draining: a broker that leads something does not end its log: it may hold what is in no object.",
        ("automq.controller.brokers:end_broker",),
        without(("image.leader_counts.get(node)", "False")),
        "leader_wants_to_end_its_log",
    ),
    Rule(
        "begin anew: in nobody's place",
        "Liveness: a fenced process that begins anew registers only while its node has no other incarnation.",
        ("automq.controller.brokers:check_newest_is",),
        does_nothing,
        "straggler_begins_anew",
    ),
    Rule(
        "pre-vote",
        "Election: a candidate that hears nothing asks the others; one that hears the controller forbids the claim.",
        ("automq.controller.election:verdict",),
        _always_permitted,
        "one_broker_does_not_hear_the_controller",
    ),
)
