"""The clauses of the commit check, and how each is taken out."""

from typing import Any

from tests.sim.rules import Rule, does_nothing, returns, without
from tests.support.rewrite import rewritten

CHECK = "automq.controller.commit_check:"


def _any_owner(original: Any) -> Any:
    return lambda stream, request, item: stream.epoch == item.epoch


def _any_epoch(original: Any) -> Any:
    return lambda stream, request, item: stream.owner == request.node


def _refused_like_any_other(original: Any) -> Any:
    if original.__name__ == "judge_range":
        return rewritten(original, ("RangeVerdict.DROPPED", "RangeVerdict.REFUSED"))
    # And no range of it has another owner.
    return lambda image, request, refused: (
        image.wals[request.node, request.epoch].trim_to if refused else request.trim_to
    )


def _not_clipped(original: Any) -> Any:
    return lambda stream, item: item.start


def _end_stays(original: Any) -> Any:
    """What is trimmed is not recorded at all."""

    def recorded(stream: Any, item: Any, *, start: Any) -> Any:
        return None if start >= item.end else original(stream, item, start=start)

    return recorded


def _always_moves(original: Any) -> Any:
    return lambda image, request, refused: max(image.wals[request.node, request.epoch].trim_to, request.trim_to)


def _never_moves(original: Any) -> Any:
    return lambda image, request, refused: (
        image.wals[request.node, request.epoch].trim_to if refused else original(image, request, refused)
    )


def _any_recoverer(original: Any) -> Any:
    def check(image: Any, request: Any) -> None:
        if request.recoverer is None:
            original(image, request)

    return check


COMMIT_RULES: tuple[Rule, ...] = (
    Rule(
        "begins at the end: no hole",
        "Commit check: range.start == stream.end; what begins after the end is refused.",
        (CHECK + "is_contiguous",),
        returns(True),
        "hole",
    ),
    Rule(
        "begins at the end: no overlap",
        "Commit check: range.start == stream.end; what begins before the end is refused.",
        (CHECK + "is_contiguous",),
        returns(True),
        "the_same_offsets_twice",
    ),
    Rule(
        "owner",
        "Commit check: the committing broker owns the stream.",
        (CHECK + "is_owned",),
        _any_owner,
        "stranger_commits",
    ),
    Rule(
        "current epoch",
        "Commit check: it committed what it wrote at its current epoch.",
        (CHECK + "is_owned",),
        _any_epoch,
        "former_opening_commits",
    ),
    Rule(
        "deleted stream",
        "Commit check: the stream is deleted: dropped.",
        (CHECK + "judge_range", CHECK + "position_after"),
        _refused_like_any_other,
        "deleted_stream",
    ),
    Rule(
        "clipped",
        "Commit check: below the trim point: clipped.",
        (CHECK + "clipped_start",),
        _not_clipped,
        "trimmed_in_the_middle",
    ),
    Rule(
        "the end moves",
        "Commit check: what is clipped still moves stream.end to the range's end: offsets are never given twice.",
        (CHECK + "recorded_range",),
        _end_stays,
        "wholly_trimmed",
    ),
    Rule(
        "a refused range keeps T",
        "Commit check: a commit with a refused range moves T only if that stream has another owner by now.",
        (CHECK + "position_after",),
        _always_moves,
        "refused_range_of_an_own_stream",
    ),
    Rule(
        "a lost stream frees T",
        "Commit check: a commit whose refused range has another owner by now moves T.",
        (CHECK + "position_after",),
        _never_moves,
        "moved_away",
    ),
    Rule(
        "committed is a success",
        "Commit check: an object id already committed is a success (the reply was lost).",
        (CHECK + "is_repeated",),
        returns(False),
        "lost_reply_of_a_commit",
    ),
    Rule(
        "neither prepared nor committed",
        "Commit check: an object that is neither prepared nor committed is refused whole and moves no T.",
        (CHECK + "check_prepared",),
        does_nothing,
        "expired_object",
    ),
    Rule(
        "no commit of a fenced epoch",
        "Fence first, then read: from the fence record on no commit and no trim of that epoch is accepted.",
        (CHECK + "check_committer",),
        does_nothing,
        "commit_after_the_fence",
    ),
    Rule(
        "the recoverer that the fence names",
        "Commit check: a recovery commit names the recoverer that the fence record names.",
        (CHECK + "check_committer",),
        _any_recoverer,
        "superseded_recoverer",
    ),
    Rule(
        "recovered before opened",
        "Commit check: a recovery commit comes before the stream is opened again.",
        ("automq.controller.streams:check_recovered",),
        does_nothing,
        "opened_before_recovery",
    ),
    Rule(
        "readable by the release before",
        "A format level says whether a kind of record may be written yet: no record is written that a program of the "
        "cluster's level cannot read.",
        ("automq.controller.commands:check_writable",),
        does_nothing,
        "written_before_it_is_raised",
    ),
    Rule(
        "a level waits for every broker",
        "A format level is raised only when every broker that is alive reads it.",
        ("automq.controller.format_levels:raise_level",),
        without(("broker.format_level < level", "broker.format_level < 0")),
        "written_before_it_is_raised",
    ),
)
