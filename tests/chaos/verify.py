"""Pure: what a log, the producers' journals and the consumers' journals say about each other."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Log = Mapping[int, Sequence[tuple[int, str]]]
"""Partition -> (offset, value), ascending."""


@dataclass(frozen=True)
class Journals:
    """What the clients were told."""

    acked: Mapping[str, Sequence[int]]
    """Producer name -> acknowledged sequences."""
    consumed: Sequence[tuple[int, int, str]]
    """(partition, offset, value) as any consumer saw it."""


def problems(log: Log, journals: Journals) -> list[str]:
    """Every promise that was broken, in words; empty when all held."""
    return [
        *_offsets_dense(log),
        *_present_exactly_once(log, journals),
        *_order_kept(log),
        *_seen_is_kept(log, journals),
        *_all_consumed(log, journals),
    ]


def _offsets_dense(log: Log) -> Iterable[str]:
    for partition, records in log.items():
        offsets = [offset for offset, _ in records]
        if offsets != list(range(len(offsets))):
            gap = next(i for i, offset in enumerate(offsets) if offset != i)
            yield f"partition {partition}: offset {offsets[gap]} where {gap} was due"


def _present_exactly_once(log: Log, journals: Journals) -> Iterable[str]:
    times: dict[str, int] = {}
    for records in log.values():
        for _, value in records:
            times[value] = times.get(value, 0) + 1
    for value, count in times.items():
        if count > 1:
            yield f"{value} is there {count} times"
    for name, sequences in journals.acked.items():
        lost = [sequence for sequence in sequences if f"{name}:{sequence}" not in times]
        if lost:
            yield f"{name}: {len(lost)} acknowledged records are lost, the first is {lost[0]}"


def _order_kept(log: Log) -> Iterable[str]:
    for partition, records in log.items():
        newest: dict[str, int] = {}
        for offset, value in records:
            name, _, sequence = value.rpartition(":")
            if int(sequence) < newest.get(name, -1):
                yield f"partition {partition}: {value} at offset {offset} comes after {name}:{newest[name]}"
            newest[name] = int(sequence)


def _seen_is_kept(log: Log, journals: Journals) -> Iterable[str]:
    kept = {(partition, offset): value for partition, records in log.items() for offset, value in records}
    for partition, offset, value in journals.consumed:
        if kept.get((partition, offset)) != value:
            found = kept.get((partition, offset), "nothing")
            yield f"a consumer saw {value} at {partition}/{offset}, where {found} is now"


def _all_consumed(log: Log, journals: Journals) -> Iterable[str]:
    seen = {(partition, offset) for partition, offset, _ in journals.consumed}
    missed = [(p, offset) for p, records in log.items() for offset, _ in records if (p, offset) not in seen]
    if missed:
        yield f"the group never got {len(missed)} records, the first is {missed[0][0]}/{missed[0][1]}"
