"""Pure: from a topic as it is wanted and as it is to what is to be done, and to what is outcome of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from automq_operator import api
from automq_operator.reasons import ConditionType, Reason
from automq_operator.status import conditions
from automq_operator.topics.api import Topic, TopicStatus
from automq_operator.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A topic as the cluster has it."""

    partitions: int
    configs: Mapping[str, str]
    """Those that were set for this topic: no defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What to ask of the cluster, in this order."""

    create: bool = False
    partitions: int | None = None
    """The new total."""
    set: Mapping[str, str] = field(default_factory=dict)
    reset: Sequence[str] = ()

    @property
    def is_nothing(self) -> bool:
        """The topic is as it should be."""
        return not (self.create or self.partitions or self.set or self.reset)


def work(topic: Topic, found: Found | None) -> Work:
    """What brings the topic closer to what is wanted. Configs that nobody wrote here are nobody's business."""
    wanted = topic.spec.configs
    if found is None:
        return Work(create=True)
    stale = [name for name in topic.status.configs if name not in wanted and name in found.configs]
    return Work(
        partitions=topic.spec.partitions if topic.spec.partitions > found.partitions else None,
        set={name: value for name, value in wanted.items() if found.configs.get(name) != value},
        reset=stale,
    )


def verdict(topic: Topic, found: Found | None) -> Verdict:
    """What is outcome once everything that could be done was done."""
    if found is None:
        return synced(None, Reason.STARTING, "the topic is being made")
    if found.partitions > topic.spec.partitions:
        text = f"{topic.topic_name} has {found.partitions} partitions: Kafka takes none away; raise spec.partitions"
        return synced(False, Reason.CANNOT_SHRINK, text)
    return synced(True, Reason.SETTLED, f"{topic.topic_name} is as the spec says")


def synced(holds: bool | None, reason: Reason, text: str) -> Verdict:
    """The one condition that a topic has."""
    return Verdict(type=ConditionType.SYNCED, holds=holds, reason=reason, message=text)


def earlier(topic: Topic, others: Sequence[Topic]) -> Topic | None:
    """Another resource for the same topic of the same cluster that was there before this one."""
    rivals = [
        other
        for other in others
        if other.uid != topic.uid
        and (other.namespace, other.spec.cluster, other.topic_name)
        == (topic.namespace, topic.spec.cluster, topic.topic_name)
        and (other.created, other.name) < (topic.created, topic.name)
    ]
    return min(rivals, key=lambda other: (other.created, other.name), default=None)


def report(topic: Topic, found: Found | None, outcome: Verdict, *, now: str) -> TopicStatus:
    """The whole status. What was set here is remembered: it is reset when it is not wanted any more."""
    kept = {name for name in topic.status.configs if found is not None and name in found.configs}
    mine = kept | (set(topic.spec.configs) if found is not None else set())
    return TopicStatus(
        observed_generation=topic.generation,
        topic_name=topic.topic_name,
        partitions=found.partitions if found is not None else topic.status.partitions,
        configs=sorted(mine) if found is not None else topic.status.configs,
        conditions=conditions([outcome], topic.status.conditions, generation=topic.generation, now=now),
    )


def condition_of(status: TopicStatus) -> api.Condition | None:
    """Its condition, if something was outcome already."""
    return next(iter(status.conditions), None)
