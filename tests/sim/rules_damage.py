"""The rules about a store that is other than expected, and how each is taken out."""

from typing import Any

from tests.sim.rules import Rule, does_nothing_async

CONDITIONAL = "automq.s3stream.store.conditional:"


def _taken(original: Any) -> Any:
    from automq.s3stream.store.conditional import Verdict

    return lambda *args: Verdict.TAKEN


def _any_key_is_ours(original: Any) -> Any:
    """A key is cut into numbers by position, whatever else it is."""

    def select(infos: Any, parse: Any, **options: Any) -> Any:
        for info in infos:
            if parse(info.key) is None:
                int(info.key.rpartition("/")[2])
        return original(infos, parse, **options)

    return select


def _survives_nothing(original: Any) -> Any:
    return lambda step, **options: original(step, **{**options, "survives": ()})


DAMAGE_RULES: tuple[Rule, ...] = (
    Rule(
        "what does not decode is no fence",
        "Nothing is assumed of the store: what does not decode is damage, never another process's fence.",
        (CONDITIONAL + "judge_foreign",),
        _taken,
        "half_a_slot",
    ),
    Rule(
        "a claim is proved",
        "Nothing is assumed of the store: a claimant sees that the store still refuses to create its claim again.",
        ("automq.metadata.claim:_check_refused",),
        does_nothing_async,
        "store_without_conditions",
    ),
    Rule(
        "strangers are passed over",
        "Nothing is assumed of the store: keys are known by one strict pattern a folder; all others are ignored.",
        ("automq.s3stream.store.listing:select_own",),
        _any_key_is_ours,
        "strangers_in_every_folder",
    ),
    Rule(
        "periodic work goes on",
        "Nothing is assumed of the store: no answer of it ends periodic work.",
        ("automq.controller.background:repeat", "automq.metadata.lease:repeat"),
        _survives_nothing,
        "refused_everything_for_a_while",
    ),
)
