"""AutoMQTopic as typed, frozen values: the source of its CRD and of its table in docs/kubernetes.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from automq_operator import api
from automq_operator.pod_schema import NAME

KIND: Final = "AutoMQTopic"
PLURAL: Final = "automqtopics"

TOPIC_NAME: Final = "^[a-zA-Z0-9._-]+$"
PARTITIONS_MAX: Final = 100_000


class TopicSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the user wants."""

    cluster: Annotated[
        str,
        Meta(description="Name of the AutoMQCluster, in the same namespace. Immutable.", max_length=63, pattern=NAME),
    ]
    topic_name: (
        Annotated[
            str,
            Meta(
                description="The topic's name in Kafka; default: the resource's own. Immutable.",
                min_length=1,
                max_length=249,
                pattern=TOPIC_NAME,
            ),
        ]
        | None
    ) = None
    partitions: Annotated[
        int, Meta(description="Number of partitions. Kafka can only add some.", ge=1, le=PARTITIONS_MAX)
    ] = 1
    configs: Annotated[
        dict[api.ConfigKey, str],
        Meta(description="Topic configs in Kafka's names. One that is taken out gets its default again."),
    ] = {}
    deletion_policy: Annotated[
        Literal["Retain", "Delete"],
        Meta(
            description="What happens to the topic, and all its records, when this resource is deleted. Delete is done "
            "by an operator that runs at that moment: there is no finalizer that would hold up anybody."
        ),
    ] = "Retain"


class TopicStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the operator found and did."""

    observed_generation: Annotated[int, Meta(description="The generation of the spec that this status is about.")] = 0
    topic_name: Annotated[str, Meta(description="The topic's name in Kafka.")] | None = None
    partitions: Annotated[int, Meta(description="Partitions that the topic has.")] | None = None
    configs: Annotated[
        list[str], Meta(description="Names of the configs that were set for this resource, and are reset when it ends.")
    ] = []
    conditions: Annotated[list[api.Condition], Meta(description="Synced.")] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """The resource, parsed."""

    name: str
    namespace: str
    uid: str
    generation: int
    created: str
    """Its creationTimestamp."""
    spec: TopicSpec
    status: TopicStatus

    @property
    def topic_name(self) -> str:
        """In Kafka."""
        return self.spec.topic_name or self.name


def parse(body: Mapping[str, Any]) -> Topic:
    """Raises msgspec.ValidationError, whose message names the field."""
    metadata = body["metadata"]
    return Topic(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        created=metadata.get("creationTimestamp", ""),
        spec=msgspec.convert(body["spec"], TopicSpec),
        status=msgspec.convert(body.get("status") or {}, TopicStatus),
    )
