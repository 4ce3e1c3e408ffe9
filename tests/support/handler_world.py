"""A broker's services around a metadata image made by hand: for tests of handlers that only read."""

import uuid
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from automq.controller.link import Leader
from automq.handlers.broker_configs import BrokerConfigs
from automq.handlers.context import RequestContext, Services
from automq.handlers.metadata_answers import handle_metadata
from automq.ids import BrokerEpoch, ClusterId, ControllerEpoch, NodeId, StreamEpoch, StreamId, TopicId
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.records import (
    BrokerRegistered,
    ConfigChanged,
    Endpoint,
    MetadataRecord,
    NewPartition,
    PartitionsCreated,
    TopicCreated,
)
from automq.metadata.replay import replay
from automq.protocol.apis import APIS
from automq.protocol.codec import decode_whole
from automq.protocol.messages.discovery import MetadataRequest, MetadataResponse
from automq.runtime.clock import SystemClock
from automq.runtime.entropy import SeededEntropy
from automq.security.session import Session

NODE = NodeId(1)
CLUSTER = ClusterId("AAAAAAAAAAAAAAAAAAAAAA")


class WholePartitions:
    """No partition is open, and none is damaged."""

    quarantine_changes = 0

    def is_quarantined(self, topic: str, index: int) -> bool:
        return False


def topic_id(name: str) -> TopicId:
    """The id that `image_of` gives a topic."""
    return TopicId(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def image_of(topics: dict[str, int], *further: MetadataRecord, internal: Sequence[str] = ()) -> MetadataImage:
    """One broker with two listeners, and topics with so many partitions."""
    endpoints = (Endpoint("PLAINTEXT", "here", 9092), Endpoint("OUTSIDE", "public.example", 443))
    records: list[MetadataRecord] = [BrokerRegistered(NODE, BrokerEpoch(1), "rack-a", endpoints)]
    stream = 1
    for name, partitions in topics.items():
        records.append(TopicCreated(topic_id(name), name, name in internal, 1))
        made = [NewPartition(i, StreamId(stream + i), NODE, StreamEpoch(3)) for i in range(partitions)]
        records.append(PartitionsCreated(topic_id(name), tuple(made)))
        stream += partitions
    image = EMPTY
    for record in (*records, *further):
        image = replay(image, record)
    return image


def override(resource_type: int, name: str, **changes: str) -> ConfigChanged:
    """An override; `__` in a keyword stands for a dot."""
    return ConfigChanged(resource_type, name, tuple((key.replace("__", "."), value) for key, value in changes.items()))


def a_session(listener: str = "PLAINTEXT") -> Session:
    """A client's."""
    session = Session(listener_name=listener, client_host="127.0.0.1")
    session.client_id = "test"
    return session


def context_of(
    image: MetadataImage,
    *,
    version: int,
    listener: str = "PLAINTEXT",
    configs: BrokerConfigs | None = None,
    **services: Any,
) -> RequestContext:
    """A request on `listener`. Services that are not given are not there."""
    values: dict[str, Any] = {
        "controller": SimpleNamespace(leader=Leader(NODE, ControllerEpoch(1))),
        "partitions": WholePartitions(),
        "groups": None,
        "fetch_sessions": None,
        "producer_ids": None,
        **services,
    }
    return RequestContext(
        services=Services(
            node=NODE,
            cluster_id=CLUSTER,
            clock=SystemClock(),
            entropy=SeededEntropy(0),
            metadata=MetadataPublisher(image),
            broker_configs=configs or BrokerConfigs(entries={}, topic_defaults={}),
            api_versions={key: api.advertised for key, api in APIS.items() if key in (0, 3, 18)},
            **cast(dict[str, Any], values),
        ),
        version=version,
        session=a_session(listener),
    )


async def metadata_of(context: RequestContext, request: MetadataRequest) -> MetadataResponse:
    """What a client reads in the answer to `request`."""
    frame = memoryview((await handle_metadata(context, request)).encode(context.version, 7))
    header_bytes = 9 if MetadataResponse.is_flexible(context.version) else 8
    return decode_whole(MetadataResponse, context.version, frame, header_bytes)
