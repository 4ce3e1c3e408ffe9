"""Carries out requests on the active controller of this process, for callers here and elsewhere."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from automq.controller import requests
from automq.controller.compaction_check import CompactionRefused
from automq.controller.link import Answer, ControllerLink, Leader
from automq.controller.model import HeartbeatAnswer
from automq.controller.requests import Request
from automq.controller.service import Controller
from automq.protocol.errors import ApiError
from automq.replicated.machine import LogFailed, LogFenced
from automq.s3stream.model import StreamError
from automq.s3stream.ports import NotController, StoreError

Perform = Callable[[Controller, Any], Awaitable[Any]]


async def _hear(to: Controller, heartbeat: requests.Heartbeat) -> HeartbeatAnswer:
    return to.members.heartbeat(heartbeat)


PERFORM: Final[Mapping[type, Perform]] = {
    requests.RegisterBroker: lambda to, r: to.register_broker(
        r.node,
        rack=r.rack,
        endpoints=r.endpoints,
        format_level=r.format_level,
        incarnation=r.incarnation,
        wal=r.wal,
        after=r.after,
    ),
    requests.FenceBroker: lambda to, r: to.fence_broker(r.node, r.epoch, recoverer=r.recoverer),
    requests.WalRecovered: lambda to, r: to.wal_recovered(
        r.node, r.epoch, recoverer=r.recoverer, recovered=r.recovered
    ),
    requests.UnregisterBroker: lambda to, r: to.members.unregister(r.node, r.epoch),
    requests.OpenStreams: lambda to, r: to.open_streams(r.node, r.epoch),
    requests.AllocateProducerIds: lambda to, r: to.allocate_producer_ids(r.node, r.epoch, r.count),
    requests.QuarantineWal: lambda to, r: to.quarantine_wal(
        r.node, r.epoch, recoverer=r.recoverer, found=r.found, unplaced=r.unplaced, by_serving=r.by_serving
    ),
    requests.QuarantineStreams: lambda to, r: to.quarantine_streams(r.node, r.epoch, streams=r.streams, found=r.found),
    requests.LoseBefore: lambda to, r: to.lose_before(
        r.node, r.epoch, recoverer=r.recoverer, stream=r.stream, end=r.end
    ),
    requests.CreateTopics: lambda to, r: to.create_topics(r.specs, validate_only=r.validate_only),
    requests.DeleteTopics: lambda to, r: to.delete_topics(
        [topic_id if name is None else name for name, topic_id in r.topics]
    ),
    requests.CreatePartitions: lambda to, r: to.create_partitions(r.specs, validate_only=r.validate_only),
    requests.AlterConfigs: lambda to, r: to.alter_configs(r.alterations, validate_only=r.validate_only),
    requests.TrimStreams: lambda to, r: to.trim_streams(r.node, r.epoch, r.trims),
    requests.PrepareObjects: lambda to, r: to.prepare_objects(r.node, r.epoch, r.count),
    requests.CommitObjects: lambda to, r: to.commit_objects(r.request),
    requests.CommitCompaction: lambda to, r: to.commit_compaction(r.request),
    requests.Confirm: lambda to, r: to.confirm(r.node, r.epoch),
    requests.Heartbeat: lambda to, r: _hear(to, r),
    requests.RaiseFormatLevel: lambda to, r: to.raise_format_level(r.level),
    requests.Follow: lambda to, r: to.followers.follow(r.node, r.record_number, r.wait_ms / 1000),
    requests.AlterReassignments: lambda to, r: to.moves.reassign(r.wanted, allows_factor_change=r.allows_factor_change),
    requests.ElectLeaders: lambda to, r: to.moves.elect(r.wanted),
    requests.DescribeBalancer: lambda to, r: to.moves.describe_balancer(r.moves_max),
    requests.EndBroker: lambda to, r: to.members.end(r.node, r.epoch),
    requests.StopBroker: lambda to, r: to.moves.stop_broker(r.node, r.epoch),
}


async def answer(controller: Controller, request: Request) -> Answer:
    """See `ControllerLink.ask`. Raises NotController."""
    try:
        value = await PERFORM[type(request)](controller, request)
    except (LogFenced, LogFailed) as error:
        raise NotController(f"no longer the controller, or it takes nothing now: {error}") from error
    except (ApiError, StreamError, CompactionRefused, StoreError) as error:
        return Answer(record_number=controller.record_number, error=error)
    return Answer(record_number=controller.record_number, value=value)


class LocalLink:
    """Implements `ControllerLink` for a broker in the controller's own process."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    @property
    def leader(self) -> Leader | None:
        return self._controller.leader

    async def ask(self, request: Request) -> Answer:
        return await answer(self._controller, request)


class NearestLink:
    """Implements `ControllerLink`: asks the controller of this process where there is one."""

    def __init__(self, own: Callable[[], Controller | None], remote: ControllerLink) -> None:
        self._own = own
        self._remote = remote

    @property
    def leader(self) -> Leader | None:
        controller = self._own()
        return self._remote.leader if controller is None else controller.leader

    async def ask(self, request: Request) -> Answer:
        controller = self._own()
        return await (self._remote if controller is None else LocalLink(controller)).ask(request)
