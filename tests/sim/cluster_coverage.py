"""What a run of several brokers has reached, besides what `coverage` counts."""

from collections.abc import Callable, Mapping
from typing import Any

from automq.metadata.records import MovesCancelled, PartitionsMoving
from tests.sim.coverage import PROBES, count


def _roles(take: Any) -> Any:
    """Which ways brokers have gone to find their controller."""

    async def counted(self: Any, step: Any, **options: Any) -> Any:
        following = await take(self, step, **options)
        names = {
            ("CLAIM", "LEAD"): "elections won",
            ("CLAIM", "REST"): "races for the claim lost",
            ("CONFIRM", "CLAIM"): "claims after a refused connection",
            ("FOLLOW", "CLAIM"): "claims of named successors",
            ("LEAD", "READ"): "claims lost",
        }
        count(names.get((step.name, following.name), "other steps of roles"))
        return following

    return counted


def _watched(watch: Any) -> Any:
    """What those that heard nothing were told, by others or by the lease."""

    async def counted(self: Any, **options: Any) -> Any:
        event = await watch(self, **options)
        names = {
            "OBJECTED": "pre-votes refused",
            "PERMITTED": "pre-votes granted",
            "STILL": "claims after a still lease",
        }
        count(names.get(event.name, "other ends of a watch"))
        return event

    return counted


def _records(what: str) -> Callable[[Any], Any]:
    """A function that decides on records: how often there are any."""

    def probe(decide: Any) -> Any:
        def counted(*args: Any, **options: Any) -> Any:
            records = decide(*args, **options)
            count(what, bool(records))
            return records

        return counted

    return probe


def _fenced(decide: Any) -> Any:
    def counted(image: Any, dead: Any, around: Any) -> Any:
        records = decide(image, dead, around)
        count("fences of silent brokers", sum((record.node, record.epoch) in dead for record in records))
        count("recoverers replaced", sum((record.node, record.epoch) not in dead for record in records))
        return records

    return counted


def _called(what: str) -> Callable[[Any], Any]:
    def probe(called: Any) -> Any:
        def counted(*args: Any, **options: Any) -> Any:
            count(what)
            return called(*args, **options)

        return counted

    return probe


def _is(what: str, wanted: bool = True) -> Callable[[Any], Any]:
    """A function that says yes or no."""

    def probe(asked: Any) -> Any:
        def counted(*args: Any, **options: Any) -> Any:
            answer = asked(*args, **options)
            count(what, bool(answer) is wanted)
            return answer

        return counted

    return probe


def _releases(judge: Any) -> Any:
    def counted(*args: Any, **options: Any) -> Any:
        judged = judge(*args, **options)
        count("moves released", len(judged.released))
        count("moves refused", len(judged.refused))
        return judged

    return counted


def _parking(end: Any) -> Any:
    def counted(self: Any, takes: bool) -> None:
        count("parked appends made" if takes else "parked appends refused", len(self._parked))
        end(self, takes)

    return counted


def _survivor(recover: Any) -> Any:
    async def counted(self: Any, wal: Any) -> None:
        before = self.recovered_logs
        await recover(self, wal)
        count("logs recovered by a survivor", self.recovered_logs - before)

    return counted


def _planned(records_of: Any) -> Any:
    """Moves that are recorded, and whose wish they were."""
    whose = {"BALANCER": "moves of the balancer", "DRAIN": "moves away from a broker that drains"}

    def counted(self: Any) -> Any:
        records = records_of(self)
        for record in records:
            if isinstance(record, PartitionsMoving):
                count("moves decided", len(record.partitions))
                count(whose.get(record.cause.name, "moves that were asked for"), len(record.partitions))
            elif isinstance(record, MovesCancelled):
                count("moves cancelled", len(record.streams))
        return records

    return counted


CLUSTER_PROBES: Mapping[str, Callable[[Any], Any]] = {
    **PROBES,
    "automq.server.roles:Roles._take": _roles,
    "automq.server.roles:Roles._watch": _watched,
    "automq.controller.membership:fence_dead": _fenced,
    "automq.controller.membership:replace_recoverers": _records("recoverers named for logs that nobody had"),
    "automq.controller.sessions:Sessions.proved": _called("sessions begun anew after a proof"),
    "automq.controller.commit_check:judge_releases": _releases,
    "automq.controller.commit_check:is_repeated": _is("commits asked again"),
    "automq.partition.parking:Parking.park": _is("appends parked"),
    "automq.partition.parking:Parking._end": _parking,
    "automq.server.lifecycle.log_recovery:LogRecovery._recover_beside": _survivor,
    "automq.controller.moves:_Plan.records": _planned,
    "automq.controller.followers:Followers.name_successor": _called("successors named"),
}

IN_EVERY_CLUSTER_BATCH = (
    "elections won",
    "pre-votes refused",
    "pre-votes granted",
    "claims after a refused connection",
    "claims of named successors",
    "claims lost",
    "races for the claim lost",
    "fences of silent brokers",
    "logs recovered by a survivor",
    "recoverers replaced",
    "sessions begun anew after a proof",
    "moves that were asked for",
    "moves released",
    "moves refused",
    "moves cancelled",
    "moves away from a broker that drains",
    "moves of the balancer",
    "appends parked",
    "parked appends made",
    "parked appends refused",
    "successors named",
    "requests that had to wait for room",
    "recoveries with several groups",
)
"""What some dozens of seeds must have reached."""
IN_LARGE_CLUSTER_BATCHES = (
    "loaders overtaken",
    "recoverers named for logs that nobody had",
    "commits asked again",
    "claims after a still lease",
)
"""What some hundreds of seeds must have reached besides."""
