"""The rules of both logs, and how each is taken out."""

from typing import Any

from tests.sim.rules import Rule, does_nothing, returns, without


def _landed(original: Any) -> Any:
    from automq.s3stream.store.conditional import Verdict

    return lambda *args: Verdict.LANDED


def _taken(original: Any) -> Any:
    from automq.s3stream.store.conditional import Verdict

    return lambda *args: Verdict.TAKEN


def _overwrites(original: Any) -> Any:
    async def put(store: Any, key: str, body: Any, **options: Any) -> None:
        await store.put(key, body)

    return put


def _as_first_seen(original: Any) -> Any:
    """What the loader saw first is what it goes by."""

    async def newest(self: Any) -> Any:
        seen = vars(self).get("seen")
        if seen is None:
            seen = vars(self)["seen"] = await original(self)
        return seen

    return newest


def _named_after_the_next(original: Any) -> Any:
    from automq.metadata.log_format import LogPosition

    return lambda cluster_id, position, **options: original(
        cluster_id, LogPosition(position.epoch, position.sequence + 1), **options
    )


def _goes_on(original: Any) -> Any:
    def appended(self: Any, done: Any, captured: Any) -> None:
        if done.cancelled() or done.exception() is not None:
            self._last = None
        else:
            original(self, done, captured)

    return appended


def _nobody_waits(original: Any) -> Any:
    from contextlib import nullcontext

    def made(self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        self._commands = nullcontext()

    return made


LOADER = "automq.metadata.loader:"
SNAPSHOTS = "automq.metadata.snapshots:"
CONDITIONAL = "automq.s3stream.store.conditional:"
_UNKNOWN = "verdict, failure = (Verdict.UNKNOWN, error)"
CONFLICT = f"except StoreConflict as error:\n            {_UNKNOWN}"
NO_ANSWER = f"{CONFLICT}\n        except StoreError as error:\n            {_UNKNOWN}"

LOG_RULES: tuple[Rule, ...] = (
    Rule(
        "unknown outcome",
        "In order: no answer is no outcome; the same bytes are asked for again.",
        (CONDITIONAL + "create_once",),
        without((NO_ANSWER, NO_ANSWER.replace("UNKNOWN", "LANDED"))),
        "refused_append",
    ),
    Rule(
        "409 is no loss",
        "In order: 409 means that nothing happened; the same bytes are asked for again.",
        (CONDITIONAL + "create_once",),
        without((CONFLICT, CONFLICT.replace("UNKNOWN", "TAKEN"))),
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
        (LOADER + "LogLoader._replay_epoch",),
        without(("if fencer is None:", "if True:")),
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
    Rule(
        "claims are created",
        "Controller epochs: claims are keys of their own, created if absent.",
        ("automq.metadata.claim:create_once",),
        _overwrites,
        "two_claims_at_once",
    ),
    Rule(
        "newest snapshot after the claim",
        "Controller epochs: a new controller loads the newest snapshot after claiming.",
        (LOADER + "LogLoader._newest_snapshot",),
        _as_first_seen,
        "slots_trimmed_under_a_reader",
    ),
    Rule(
        "snapshots name their slot",
        "Snapshots name the slot they include.",
        (SNAPSHOTS + "snapshot_key", SNAPSHOTS + "encode_snapshot"),
        _named_after_the_next,
        "slots_after_the_newest_snapshot",
    ),
    Rule(
        "a failed append drops the state",
        "Speculation stays inside: a failed append drops the speculative state whole.",
        ("automq.replicated.driver:Driver._on_appended",),
        _goes_on,
        "a_lost_append_leaves_nothing",
    ),
    Rule(
        "one command at a time",
        "A command that takes several turns is one command: no other is decided, and nothing read, between its parts.",
        ("automq.replicated.driver:Driver.__init__",),
        _nobody_waits,
        "two_long_commands_at_once",
    ),
)
