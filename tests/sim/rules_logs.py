"""The rules of both logs, and how each is taken out."""

from typing import Any

from tests.sim.rules import Rule, does_nothing, returns


def _landed(original: Any) -> Any:
    from automq.s3stream.store.conditional import Verdict

    return lambda *args: Verdict.LANDED


def _taken(original: Any) -> Any:
    from automq.s3stream.store.conditional import Verdict

    return lambda *args: Verdict.TAKEN


LOADER = "automq.metadata.loader:"
SNAPSHOTS = "automq.metadata.snapshots:"
CONDITIONAL = "automq.s3stream.store.conditional:"

LOG_RULES: tuple[Rule, ...] = (
    Rule(
        "unknown outcome",
        "In order: no answer is no outcome; the same bytes are asked for again.",
        (CONDITIONAL + "judge_failure",),
        _landed,
        "refused_append",
    ),
    Rule(
        "409 is no loss",
        "In order: 409 means that nothing happened; the same bytes are asked for again.",
        (CONDITIONAL + "judge_conflict",),
        _taken,
        "conflict_on_an_append",
    ),
    Rule(
        "412 is decided by the nonce: ours",
        "In order: a slot that holds our own bytes is an earlier try whose answer was lost.",
        (CONDITIONAL + "judge_found",),
        _taken,
        "lost_answer_of_an_append",
    ),
    Rule(
        "412 is decided by the nonce: another's",
        "In order: a slot found taken by another nonce means fenced.",
        (CONDITIONAL + "judge_found",),
        _landed,
        "claimant_dies_before_it_fences",
    ),
    Rule(
        "fence lower epochs",
        "Controller epochs: a new controller fences every lower epoch, in ascending order, before its own slot 0.",
        (LOADER + "fences_lower_epochs",),
        returns(False),
        "claimant_dies_before_it_fences",
    ),
    Rule(
        "void win",
        "Controller epochs: after winning a slot as fence, any higher slot voids the win.",
        (LOADER + "check_not_void",),
        does_nothing,
        "fence_into_a_trimmed_slot",
    ),
    Rule(
        "which fences count",
        "Controller epochs: only a fence counts that is its epoch's highest or that a replay without a gap reaches.",
        (LOADER + "fence_counts",),
        returns(True),
        "void_fence_of_a_dead_claimant",
    ),
    Rule(
        "gap means reload",
        "Controller epochs: every slot carries the cumulative record number; a gap means reload.",
        (LOADER + "check_contiguous",),
        does_nothing,
        "slots_trimmed_under_a_reader",
    ),
    Rule(
        "slots below the boundary only",
        "Snapshots: slots are deleted only below the snapshot before the newest.",
        (SNAPSHOTS + "below_boundary",),
        returns(True),
        "slots_after_the_newest_snapshot",
    ),
    Rule(
        "durable snapshots",
        "Speculation stays inside: snapshots hold durable state only.",
        (SNAPSHOTS + "is_durable_state",),
        returns(True),
        "snapshot_while_appends_are_on_their_way",
    ),
    Rule(
        "metadata fences stay",
        "Fences stay: a fence slot of the metadata log, its epoch's newest slot, is never deleted.",
        (SNAPSHOTS + "is_fence", SNAPSHOTS + "newest_of_each_epoch"),
        lambda original: (lambda *args: {}) if original.__name__ == "newest_of_each_epoch" else (lambda info: False),
        "paused_controller_wakes_up_after_the_trim",
    ),
)
