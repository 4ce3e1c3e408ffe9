"""What is measured of each group: members, state, rebalances, lag.

Groups are looked at before a scrape, a piece in each turn of the event loop: they may have a million offsets.
The number of series is bounded: the groups that are known for longest have them, and a gauge says how many have not.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from prometheus_client.core import Metric

from automq.coordinators.group.classic import ClassicGroup
from automq.coordinators.group.model import GroupState
from automq.coordinators.group.offsets import OffsetTable
from automq.runtime.telemetry import Metrics

LOOKED_AT_PER_TURN: Final = 2_000
"""Groups and offsets: about two milliseconds."""
OFFSETS_MAX: Final = 200_000
"""Counted for one scrape; groups beyond have no lag then."""

EndOffset = Callable[[str, int], int | None]
"""The high watermark of a partition; None when it is not open here."""


class GroupsSource(Protocol):
    """The groups of one shard."""

    groups: dict[str, ClassicGroup]
    offsets: OffsetTable


class GroupMetrics:
    """Of the groups that one broker coordinates; `sources` are the shards that are served now."""

    def __init__(
        self, metrics: Metrics, *, groups_max: int, sources: Callable[[], Sequence[GroupsSource]], end_offset: EndOffset
    ) -> None:
        self._groups_max = groups_max
        self._sources = sources
        self._end_offset = end_offset
        self._chosen: list[tuple[str, ClassicGroup]] = []
        self._lag: dict[tuple[str, str], int] = {}
        """Of the last scrape."""
        self._omitted = 0
        self._counts = dict.fromkeys(GroupState, 0)
        del self._counts[GroupState.DEAD]
        self._spent = 0
        declare = metrics.declare
        self._states = declare("automq_groups", "gauge", "Groups that are coordinated here, by state", ["state"])
        self._members = declare("automq_group_members", "gauge", "Members of a group", ["group"])
        self._rebalances = declare(
            "automq_group_rebalances",
            "counter",
            "Join phases that a group began since this broker coordinates it",
            ["group"],
        )
        self._lags = declare(
            "automq_group_lag",
            "gauge",
            "Records behind the committed offsets of a group, over the partitions of a topic that are open here",
            ["group", "topic"],
        )
        self._omissions = declare(
            "automq_groups_without_metrics",
            "gauge",
            "Groups beyond automq.metrics.groups.max, or whose lag is not counted",
        )
        metrics.prepare(self._refresh)
        metrics.export(self._collect)

    async def _refresh(self) -> None:
        """Which groups are shown, in which states they all are, and how far behind those shown are."""
        counts = dict.fromkeys(GroupState, 0)
        chosen: list[tuple[str, GroupsSource]] = []
        total = 0
        for source in self._sources():
            # Groups come and go between two turns.
            for group_id in list(source.groups):
                group = source.groups.get(group_id)
                if group is None:
                    continue
                counts[group.state] += 1
                total += 1
                if len(chosen) < self._groups_max:
                    chosen.append((group_id, source))
                await self._spend(1)
        lag: dict[tuple[str, str], int] = {}
        counted = 0
        omitted = total - len(chosen)
        for group_id, source in chosen:
            if counted >= OFFSETS_MAX:
                omitted += 1
            else:
                counted += await self._count_lag(group_id, source, lag)
        del counts[GroupState.DEAD]
        self._counts, self._lag, self._omitted = counts, lag, omitted
        self._chosen = [
            (group_id, group) for group_id, source in chosen if (group := source.groups.get(group_id)) is not None
        ]

    async def _count_lag(self, group_id: str, source: GroupsSource, lag: dict[tuple[str, str], int]) -> int:
        """Adds to `lag`; how many offsets were looked at."""
        looked_at = 0
        # Copies: offsets may be committed between two turns.
        for topic in list(source.offsets.topics(group_id)):
            total = 0
            for index, committed in list(source.offsets.topics(group_id).get(topic, {}).items()):
                end = self._end_offset(topic, index)
                if end is not None:
                    total += max(0, end - committed.offset)
                looked_at += 1
                await self._spend(1)
            lag[group_id, topic] = total
        return looked_at

    async def _spend(self, looked_at: int) -> None:
        """Give everybody else a turn after so many things."""
        self._spent += looked_at
        if self._spent >= LOOKED_AT_PER_TURN:
            self._spent = 0
            await asyncio.sleep(0)

    def _collect(self) -> Iterator[Metric]:
        states = self._states.gauges()
        for state, count in self._counts.items():
            states.add_metric([state.value], count)
        yield states
        members, rebalances, lags = self._members.gauges(), self._rebalances.counters(), self._lags.gauges()
        for group_id, group in self._chosen:
            members.add_metric([group_id], len(group.members))
            rebalances.add_metric([group_id], group.rebalances)
        for (group_id, topic), lag in self._lag.items():
            lags.add_metric([group_id, topic], lag)
        yield from (members, rebalances, lags)
        omissions = self._omissions.gauges()
        omissions.add_metric([], self._omitted)
        yield omissions
