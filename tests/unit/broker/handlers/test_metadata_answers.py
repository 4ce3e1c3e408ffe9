"""However many topics a Metadata request names: each turn of the event loop does a bounded part of the work.

What is done is counted, not timed: topics that are asked for, looked up, encoded.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from automq.handlers import metadata_answers
from automq.handlers.broker_configs import BrokerConfigs
from automq.handlers.metadata_answers import handle_metadata
from automq.handlers.metadata_cache import MetadataCache
from automq.metadata.image import MetadataImage
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.discovery import MetadataRequest, MetadataRequestTopic
from automq.protocol.metadata_codec import EncodedMetadata
from tests.support.handler_world import context_of, image_of, topic_id

TOPICS = 25_000
PER_TURN_MAX = {"asked": 5_000, "looked up": 600, "check_name": 600, "encode_metadata_topic": 251}
"""Each is about two milliseconds."""


class Turns:
    """What is done in each turn of the event loop, by what it is."""

    def __init__(self) -> None:
        self.number = 0
        self.done: dict[str, Counter[int]] = {}

    async def count(self) -> None:
        while True:
            self.number += 1
            await asyncio.sleep(0)

    def note(self, what: str, count: int = 1) -> None:
        self.done.setdefault(what, Counter())[self.number] += count

    def counting(self, what: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.note(what)
            return original(*arguments)

        return call


class Asked(list[MetadataRequestTopic]):
    """Topics of a request that note when they are read."""

    def __init__(self, topics: Sequence[MetadataRequestTopic], turns: Turns) -> None:
        super().__init__(topics)
        self.turns = turns

    def __iter__(self) -> Iterator[MetadataRequestTopic]:
        for topic in super().__iter__():
            self.turns.note("asked")
            yield topic

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        self.turns.note("asked", len(found) if isinstance(found, list) else 1)
        return found


def asked_for(what: str) -> list[MetadataRequestTopic]:
    """Topics that there are, or are not, by name or id; a thousand different ones that there are."""
    numbers = range(TOPICS)
    match what:
        case "names":
            return [MetadataRequestTopic(name=f"t{number % 1_000}") for number in numbers]
        case "ids":
            return [MetadataRequestTopic(topic_id=topic_id(f"t{number % 1_000}"), name=None) for number in numbers]
        case "unknown names":
            return [MetadataRequestTopic(name=f"none-{number}") for number in numbers]
        case _:
            return [MetadataRequestTopic(topic_id=topic_id(f"none-{number}"), name=None) for number in numbers]


@pytest.mark.parametrize(
    ("what", "version", "answered", "codes"),
    [
        ("names", 13, 1_000, {}),
        ("ids", 13, 1_000, {}),
        ("unknown names", 13, TOPICS, {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: TOPICS}),
        ("unknown ids", 13, TOPICS, {ErrorCode.UNKNOWN_TOPIC_ID: TOPICS}),
        ("unknown ids", 11, TOPICS, {ErrorCode.INVALID_REQUEST: TOPICS}),
    ],
)
async def test_b6_metadata_of_very_many_topics_is_bounded_parts(
    what: str, version: int, answered: int, codes: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns()
    for owner, name in ((MetadataImage, "topic"), (MetadataImage, "topic_by_id")):
        monkeypatch.setattr(owner, name, turns.counting("looked up", getattr(owner, name)))
    for name in ("encode_metadata_topic", "check_name"):
        monkeypatch.setattr(metadata_answers, name, turns.counting(name, getattr(metadata_answers, name)))
    context = context_of(
        image_of({f"t{number}": 1 for number in range(1_000)}),
        version=version,
        configs=BrokerConfigs(entries={}, topic_defaults={}, auto_create_topics=False),
        metadata_cache=MetadataCache(),
    )
    request = MetadataRequest(topics=Asked(asked_for(what), turns))
    counting = asyncio.ensure_future(turns.count())
    answer: EncodedMetadata = await handle_metadata(context, request)
    counting.cancel()

    assert (answer.topics_count, dict(answer.codes)) == (answered, codes)
    assert turns.done["asked"].total() >= TOPICS
    most = {name: max(done.values()) for name, done in turns.done.items()}
    assert {name: count for name, count in most.items() if count > PER_TURN_MAX[name]} == {}
