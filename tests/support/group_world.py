"""One group shard with its own time, log and timers, driven by the commands of a scenario or of a property test."""

import uuid

from automq.coordinators.group.model import (
    GroupSettings,
    GroupStored,
    JoinCommand,
    OffsetStored,
    Protocol,
    Record,
    Ticket,
)
from automq.coordinators.group.records import decode, encode
from automq.coordinators.group.shard import GroupShard
from automq.coordinators.group.timers import TimerHeap
from automq.coordinators.group.turn import ParkedResponse, Turn
from automq.protocol.codec import encode_versioned
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.consumer_protocol import ConsumerProtocolSubscription
from automq.protocol.messages.group import (
    HeartbeatRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    MemberIdentity,
    SyncGroupRequest,
    SyncGroupRequestAssignment,
)
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from automq.steps import at_once
from tests.support.scenario import Command

WALL_START_MS = 1_700_000_000_000


def a_subscription(topics: str) -> bytes:
    """Member metadata of a consumer of `topics` (comma-separated)."""
    return encode_versioned(ConsumerProtocolSubscription(topics=topics.split(",") if topics else []), 0)


class GroupWorld:
    """Carries out what the shard decides: at once, because nothing here takes time."""

    def __init__(self, settings: GroupSettings | None = None) -> None:
        self.settings = settings or GroupSettings()
        self.now_ms = 0
        self.shard = GroupShard()
        self.timers = TimerHeap()
        self.log: list[Record] = []
        self.answered: dict[Ticket, ParkedResponse] = {}
        self.topics: dict[str, uuid.UUID] | None = None
        self.lines: list[str] = []
        self.notes: list[str] = []
        """What would be logged."""
        self._tickets = 0
        self.joins = 0
        self._start()

    @property
    def wall_ms(self) -> int:
        """Wall time runs beside the world's own."""
        return WALL_START_MS + self.now_ms

    def turn(self) -> Turn:
        """A decision at this moment."""
        return Turn(now_ms=self.now_ms, wall_ms=self.wall_ms, aging_ms=self.wall_ms, settings=self.settings)

    def carry_out(self, turn: Turn) -> None:
        """Append, replay, set timers, answer."""
        for record in turn.records:
            key, value = encode(record)
            assert decode(key, value) == record
            self.log.append(record)
            self.shard.replay(record)
            self.lines.append(f"  log {show_record(record)}")
        self.timers.apply(turn.timers)
        for answer in turn.answers:
            assert answer.ticket not in self.answered, "a request is answered once"
            self.answered[answer.ticket] = answer.response
            self.lines.append(f"#{answer.ticket} {show_response(answer.response)}")
        self.notes += [f"{note.event.value}: {note.group_id} {dict(note.fields)}" for note in turn.notes]
        self.shard.check()

    def _start(self) -> None:
        turn = self.turn()
        self.shard.start(turn)
        self.carry_out(turn)

    def reload(self) -> None:
        """Another process takes over: everything but the log is lost."""
        self.shard = GroupShard()
        self.timers = TimerHeap()
        for record in self.log:
            self.shard.replay(record)
        self._start()

    def advance(self, ms: int) -> None:
        """Let time pass and fire what is due on the way."""
        end_ms = self.now_ms + ms
        while (at_ms := self.timers.next_ms()) is not None and at_ms <= end_ms:
            self.now_ms = max(self.now_ms, at_ms)
            timer = self.timers.pop_due(self.now_ms)
            assert timer is not None
            turn = self.turn()
            self.shard.fire(turn, timer, topic_exists=self._topic_exists)
            if turn.records or turn.answers:
                self.lines.append(f"at {self.now_ms}: {timer}")
            self.carry_out(turn)
        self.now_ms = end_ms

    def _topic_exists(self, name: str, topic_id: uuid.UUID | None) -> bool:
        return self.topics is None or name in self.topics

    def join(self, **options: object) -> Ticket:
        """JoinGroup; the ticket is answered now or later."""
        self._tickets += 1
        self.joins += 1
        ticket = Ticket(self._tickets)
        fields: dict[str, object] = {
            "group_id": "g",
            "member_id": "",
            "instance_id": None,
            "client_id": "c",
            "client_host": "/127.0.0.1",
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 60_000,
            "protocol_type": "consumer",
            "protocols": (Protocol("range", a_subscription("t")),),
            "needs_known_member_id": False,
            "can_skip_assignment": True,
            "member_id_suffix": str(self.joins),
        } | options
        turn = self.turn()
        self.shard.join(turn, JoinCommand(**fields), ticket)  # type: ignore[arg-type]
        self.carry_out(turn)
        return ticket

    def sync(self, request: SyncGroupRequest) -> Ticket:
        """SyncGroup; the ticket is answered now or later."""
        self._tickets += 1
        ticket = Ticket(self._tickets)
        turn = self.turn()
        self.shard.sync(turn, request, ticket)
        self.carry_out(turn)
        return ticket

    # Commands of scenario scripts.

    def execute(self, command: Command) -> list[str]:
        """Run one command; the lines it prints."""
        self.lines = []
        handler = getattr(self, f"_do_{command.name.replace('-', '_')}")
        try:
            handler(command)
        except ApiError as error:
            self.lines.append(error.code.name)
        return self.lines

    def _do_settings(self, command: Command) -> None:
        self.settings = GroupSettings(**{key: int(value) for key, value in command.options.items()})

    def _do_join(self, command: Command) -> None:
        protocols = tuple(
            Protocol(name, a_subscription(topics.replace("+", ",")))
            for name, _, topics in (item.partition(":") for item in command.get("protocols", "range:t").split(","))
        )
        version = int(command.get("version", "9"))
        before = self._tickets
        self.join(
            group_id=command.get("group", "g"),
            member_id=command.get("member"),
            instance_id=command.options.get("instance"),
            client_id=command.get("client", "c"),
            session_timeout_ms=int(command.get("session", "10000")),
            rebalance_timeout_ms=int(command.get("rebalance", "60000")),
            protocol_type=command.get("type", "consumer"),
            protocols=protocols,
            needs_known_member_id=version >= 4,
            can_skip_assignment=version >= 9,
        )
        self._note_waiting(Ticket(before + 1))

    def _note_waiting(self, ticket: Ticket) -> None:
        if ticket not in self.answered:
            self.lines.append(f"#{ticket} waits")

    def _do_sync(self, command: Command) -> None:
        assignments = [item.partition(":") for item in command.get("assign").split(",") if item]
        ticket = self.sync(
            SyncGroupRequest(
                group_id=command.get("group", "g"),
                generation_id=int(command.get("generation")),
                member_id=command.get("member"),
                group_instance_id=command.options.get("instance"),
                protocol_type=command.options.get("type"),
                protocol_name=command.options.get("protocol"),
                assignments=[
                    SyncGroupRequestAssignment(member_id=member, assignment=given.encode())
                    for member, _, given in assignments
                ],
            )
        )
        self._note_waiting(ticket)

    def _do_heartbeat(self, command: Command) -> None:
        request = HeartbeatRequest(
            group_id=command.get("group", "g"),
            generation_id=int(command.get("generation")),
            member_id=command.get("member"),
            group_instance_id=command.options.get("instance"),
        )
        turn = self.turn()
        self.lines.append(self.shard.heartbeat(turn, request).name)
        self.carry_out(turn)

    def _do_leave(self, command: Command) -> None:
        leavers = [item.partition("/") for item in command.words]
        members = [
            MemberIdentity(member_id=member, group_instance_id=instance or None) for member, _, instance in leavers
        ]
        turn = self.turn()
        response = self.shard.leave(turn, LeaveGroupRequest(group_id=command.get("group", "g"), members=members))
        for member in response.members:
            self.lines.append(f"{member.member_id or member.group_instance_id}: {ErrorCode(member.error_code).name}")
        self.carry_out(turn)

    def _do_commit(self, command: Command) -> None:
        request = OffsetCommitRequest(
            group_id=command.get("group", "g"),
            generation_id_or_member_epoch=int(command.get("generation", "-1")),
            member_id=command.get("member"),
            group_instance_id=command.options.get("instance"),
            retention_time=int(command.get("retention", "-1")),
        )
        for item in command.words:
            place, _, offset = item.partition("@")
            topic, _, partition = place.rpartition("-")
            committed = OffsetCommitRequestPartition(
                partition_index=int(partition),
                committed_offset=int(offset),
                committed_leader_epoch=int(command.get("epoch", "-1")),
                committed_metadata=command.options.get("metadata"),
            )
            request.topics.append(OffsetCommitRequestTopic(name=topic, partitions=[committed]))
        turn = self.turn()
        response = self.shard.commit(turn, request, knows_group_errors=command.get("version", "9") >= "9")
        for answer in response.topics:
            for done in answer.partitions:
                self.lines.append(f"{answer.name}-{done.partition_index}: {ErrorCode(done.error_code).name}")
        self.carry_out(turn)

    def _do_fetch(self, command: Command) -> None:
        topics = None
        if command.words:
            places = [word.rpartition("-") for word in command.words]
            topics = [OffsetFetchRequestTopics(name=name, partition_indexes=[int(index)]) for name, _, index in places]
        response = at_once(self.shard.fetch(OffsetFetchRequestGroup(group_id=command.get("group", "g"), topics=topics)))
        for topic in response.topics:
            for found in topic.partitions:
                line = f"{topic.name}-{found.partition_index}: {found.committed_offset}"
                line += f" epoch={found.committed_leader_epoch}" if found.committed_leader_epoch >= 0 else ""
                self.lines.append(line + (f" {found.metadata!r}" if found.metadata else ""))

    def _do_delete_offsets(self, command: Command) -> None:
        places = [word.rpartition("-") for word in command.words]
        topics = [
            OffsetDeleteRequestTopic(name=name, partitions=[OffsetDeleteRequestPartition(partition_index=int(index))])
            for name, _, index in places
        ]
        turn = self.turn()
        request = OffsetDeleteRequest(group_id=command.get("group", "g"), topics=topics)
        response = self.shard.delete_offsets(turn, request)
        for topic in response.topics:
            for done in topic.partitions:
                self.lines.append(f"{topic.name}-{done.partition_index}: {ErrorCode(done.error_code).name}")
        self.carry_out(turn)

    def _do_describe(self, command: Command) -> None:
        found = at_once(self.shard.describe(command.get("group", "g")))
        self.lines.append(f"{found.group_state} type={found.protocol_type!r} protocol={found.protocol_data!r}")
        if found.error_code:
            self.lines.append(ErrorCode(found.error_code).name)
        for member in found.members:
            instance = f" instance={member.group_instance_id}" if member.group_instance_id else ""
            self.lines.append(f"  {member.member_id}{instance} assigned={member.member_assignment.decode()!r}")

    def _do_list(self, command: Command) -> None:
        states = frozenset(command.get("states").lower().split(",")) - {""}
        types = frozenset(command.get("types").lower().split(",")) - {""}
        for group in at_once(self.shard.list(states=states, types=types)):
            self.lines.append(f"{group.group_id} {group.group_state} {group.group_type} {group.protocol_type!r}")

    def _do_delete(self, command: Command) -> None:
        turn = self.turn()
        self.lines.append(self.shard.delete(turn, command.get("group", "g")).name)
        self.carry_out(turn)

    def _do_advance(self, command: Command) -> None:
        self.advance(int(command.words[0]))

    def _do_reload(self, _: Command) -> None:
        self.reload()

    def _do_topics(self, command: Command) -> None:
        self.topics = {name: uuid.UUID(int=0) for name in command.words}


def show_record(record: Record) -> str:
    """A record in a word or two."""
    if isinstance(record, OffsetStored):
        committed = record.committed
        place = f"offset {record.group_id} {record.topic}-{record.partition}"
        return f"{place} = {committed.offset}" if committed else f"{place} deleted"
    assert isinstance(record, GroupStored)
    snapshot = record.snapshot
    if snapshot is None:
        return f"group {record.group_id} deleted"
    members = " ".join(f"{member.member_id}:{member.assignment.decode()}" for member in snapshot.members)
    return f"group {record.group_id} generation={snapshot.generation} {snapshot.protocol_name} [{members}]"


def show_response(response: ParkedResponse) -> str:
    """The answer of a JoinGroup or SyncGroup in one line."""
    code = ErrorCode(response.error_code)
    if not isinstance(response, JoinGroupResponse):
        return f"synced {response.assignment.decode()!r}" if code is ErrorCode.NONE else code.name
    if code is not ErrorCode.NONE:
        return code.name + (f" member={response.member_id}" if response.member_id else "")
    line = f"joined generation={response.generation_id} {response.protocol_name} member={response.member_id}"
    line += f" leader={response.leader}"
    if response.members:
        line += " members=" + ",".join(member.member_id for member in response.members)
    return line + (" skip-assignment" if response.skip_assignment else "")
