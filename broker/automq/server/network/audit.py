"""What clients change and what they are refused, as log lines: who, what, and what became of it.

Every request that changes something besides records is here by its class; its answer is read, so that what is logged is
what the client was told. What a client is refused for being what it is (transactions, an API that is not served) is
logged once for each client: it asks again and again.
"""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from automq.handlers.context import RequestContext
from automq.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE
from automq.protocol.apis import Api, ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import (
    AlterConfigsRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    IncrementalAlterConfigsRequest,
)
from automq.protocol.messages.admin_cluster import AlterPartitionReassignmentsRequest
from automq.protocol.messages.group_admin import DeleteGroupsRequest
from automq.protocol.messages.offset import OffsetCommitRequest, OffsetDeleteRequest
from automq.protocol.schema import Message
from automq.security.session import Session
from automq.steps import Steps

log = logging.getLogger(__name__)

LINES_MAX: Final = 50
"""Of one request: a tool that deletes ten thousand topics is told of in fifty lines and a number."""
# About how long a line takes, and a change that is only counted.
LINE_US: Final = 40
CHANGE_US: Final = 4
CLIENTS_MAX: Final = 1_000
"""Refusals remembered; the oldest is logged again when its client comes back."""
OUTSIDER_GROUPS_MAX: Final = 100
"""Of one connection."""
NAMED_MAX: Final = 10
"""Topics in a line."""
NAME_CHARACTERS_MAX: Final = 200
"""Of what a client says of itself."""

OPERATIONS: Final[Mapping[int, str]] = {0: "set", 1: "delete", 2: "append", 3: "subtract"}
RESOURCES: Final[Mapping[int, str]] = {TOPIC_RESOURCE: "topic", BROKER_RESOURCE: "broker"}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was asked for, and the code that its client got."""

    what: str
    target: str
    code: int
    details: Mapping[str, object] = field(default_factory=dict)


def _created_topics(request: Any, response: Any) -> Iterator[Change]:
    for result in response.topics:
        details = {"partitions": result.num_partitions, "replication_factor": result.replication_factor}
        yield Change("topic created", result.name, result.error_code, {} if result.error_code else details)


def _deleted_topics(request: Any, response: Any) -> Iterator[Change]:
    for result in response.responses:
        yield Change("topic deleted", result.name or str(result.topic_id), result.error_code)


def _grown_topics(request: Any, response: Any) -> Iterator[Change]:
    counts = _asked_for(
        request.topics, {result.name for result in response.results[:LINES_MAX]}, lambda each: each.name
    )
    for result in response.results:
        yield Change(
            "partitions added", result.name, result.error_code, {"partitions": _count(counts.get(result.name))}
        )


def _altered_configs(request: Any, response: Any) -> Iterator[Change]:
    shown_keys = {_resource(result) for result in response.responses[:LINES_MAX]}
    asked = _asked_for(request.resources, shown_keys, _resource)
    for result in response.responses:
        found = asked.get(_resource(result))
        configs = () if found is None else found.configs
        is_whole = isinstance(request, AlterConfigsRequest)
        shown = ", ".join(_replaced(each) if is_whole else _altered(each) for each in configs[:LINES_MAX])
        kind = RESOURCES.get(result.resource_type, str(result.resource_type))
        target = f"{kind} {result.resource_name or '(all)'}"
        details = {"configs": shown or "none"}
        yield Change("configs replaced" if is_whole else "configs altered", target, result.error_code, details)


def _asked_for(things: Sequence[Any], keys: set[Any], key_of: Callable[[Any], Any]) -> dict[Any, Any]:
    """Those of `things` that have a line of their own; they are mostly the first of very many."""
    found: dict[Any, Any] = {}
    for thing in things:
        if len(found) == len(keys):
            break
        key = key_of(thing)
        if key in keys:
            found[key] = thing
    return found


def _resource(named: Any) -> tuple[int, str]:
    return named.resource_type, named.resource_name


def _count(topic: Any) -> int:
    return -1 if topic is None else topic.count


def _altered(config: Any) -> str:
    operation = OPERATIONS.get(config.config_operation, str(config.config_operation))
    return f"{operation} {config.name}" if config.value is None else f"{operation} {config.name}={config.value}"


def _replaced(config: Any) -> str:
    return f"{config.name}={config.value}"


def _deleted_records(request: Any, response: Any) -> Iterator[Change]:
    for topic in response.topics:
        for part in topic.partitions:
            details = {"log_start": part.low_watermark}
            yield Change("records deleted", f"{topic.name}-{part.partition_index}", part.error_code, details)


def _deleted_groups(request: Any, response: Any) -> Iterator[Change]:
    for result in response.results:
        yield Change("group deleted", result.group_id, result.error_code)


def _deleted_offsets(request: Any, response: Any) -> Iterator[Change]:
    if response.error_code:
        yield Change("offsets deleted", request.group_id, response.error_code)
    for topic in response.topics:
        for part in topic.partitions:
            details = {"partition": f"{topic.name}-{part.partition_index}"}
            yield Change("offsets deleted", request.group_id, part.error_code, details)


def _reassigned(request: Any, response: Any) -> Iterator[Change]:
    if response.error_code:
        yield Change("partition reassigned", "(all)", response.error_code)
    for topic in response.responses:
        for part in topic.partitions:
            yield Change("partition reassigned", f"{topic.name}-{part.partition_index}", part.error_code)


CHANGES: Final[Mapping[type[Message], Callable[[Any, Any], Iterator[Change]]]] = {
    CreateTopicsRequest: _created_topics,
    DeleteTopicsRequest: _deleted_topics,
    CreatePartitionsRequest: _grown_topics,
    AlterConfigsRequest: _altered_configs,
    IncrementalAlterConfigsRequest: _altered_configs,
    DeleteRecordsRequest: _deleted_records,
    DeleteGroupsRequest: _deleted_groups,
    OffsetDeleteRequest: _deleted_offsets,
    AlterPartitionReassignmentsRequest: _reassigned,
}
"""Administrative requests and how their answers read."""

TRANSACTION_KEY: Final = 1


def is_transactional(request: Any) -> bool:
    """Whether `request` is a producer's that wants transactions."""
    match request.API_KEY:
        case ApiKey.FIND_COORDINATOR:
            return bool(request.key_type == TRANSACTION_KEY)
        case ApiKey.INIT_PRODUCER_ID:
            return request.transactional_id is not None
        case _:
            return False


class Audit:
    """Of one broker."""

    def __init__(self) -> None:
        self._refused: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._outsiders: weakref.WeakKeyDictionary[Session, set[str]] = weakref.WeakKeyDictionary()
        """Groups for which each connection has committed without being a member."""

    def answered(self, api: Api, context: RequestContext, request: Message, response: object) -> Steps[None]:
        """Log what `request` changed, or was refused, in parts."""
        changes = CHANGES.get(type(request))
        if changes is not None and not getattr(request, "validate_only", False):
            yield from self._log_changes(api, context, changes(request, response))
        elif isinstance(request, OffsetCommitRequest):
            if request.generation_id_or_member_epoch < 0 and not request.member_id:
                yield from self._log_outsider(context, request, response)
        elif is_transactional(request):
            self.refuse(
                "transactions",
                client_id=context.client_id,
                host=context.client_host,
                remedy="remove transactional.id from its settings; idempotent producers work without it",
            )

    def refuse(self, what: str, *, client_id: str | None, host: str, remedy: str) -> None:
        """A client asked for what is not served: one line for each client and thing, however often it asks."""
        name = _shown(client_id)
        key = (what, f"{name} {host}")
        if key in self._refused:
            self._refused.move_to_end(key)
            return
        self._refused[key] = None
        if len(self._refused) > CLIENTS_MAX:
            self._refused.popitem(last=False)
        log.warning("refused", extra={"what": what, "client": name, "host": host, "remedy": remedy})

    def _log_outsider(self, context: RequestContext, request: OffsetCommitRequest, response: Any) -> Steps[None]:
        """Whoever resets a group's offsets commits so, on a connection of its own.

        So do consumers that assign partitions themselves, again and again: one line for each connection and group.
        """
        groups = self._outsiders.setdefault(context.session, set())
        if request.group_id in groups or len(groups) >= OUTSIDER_GROUPS_MAX:
            return
        groups.add(request.group_id)
        partitions = refused = 0
        for topic in response.topics:
            partitions += len(topic.partitions)
            for part in topic.partitions if not refused else ():
                refused = refused or part.error_code
            yield len(topic.partitions) // 8
        fields = {
            "target": request.group_id,
            "topics": ",".join(topic.name for topic in request.topics[:NAMED_MAX]),
            "partitions": partitions,
            **({"error": _name(refused)} if refused else {}),
        }
        log.info("offsets committed by no member of the group", extra={**fields, **_who(context)})

    def _log_changes(self, api: Api, context: RequestContext, changes: Iterator[Change]) -> Steps[None]:
        who = _who(context)
        for change in islice(changes, LINES_MAX):
            if change.code:
                outcome = {"api": api.name, "asked": change.what, "error": _name(change.code)}
                log.info("change refused", extra={"target": change.target, **change.details, **outcome, **who})
            else:
                log.info(change.what, extra={"target": change.target, **change.details, **who})
            yield LINE_US
        more = 0
        for _change in changes:
            more += 1
            yield CHANGE_US
        if more:
            log.info("more of the same request", extra={"api": api.name, "more": more, **who})


def _who(context: RequestContext) -> dict[str, object]:
    session = context.session
    return {
        "principal": context.principal,
        "client": _shown(context.client_id),
        "software": f"{session.software_name or 'unknown'} {session.software_version or ''}".strip(),
        "host": context.client_host,
        "listener": context.listener_name,
    }


def _shown(client_id: str | None) -> str:
    return (client_id or "(no client id)")[:NAME_CHARACTERS_MAX]


def _name(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)
