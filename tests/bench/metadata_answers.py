"""What the loop does for a Metadata answer of ten thousand partitions: all topics, or each of a thousand named.

Asked again, and for the first time after one topic has changed.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import uvloop

from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.messages.discovery import MetadataRequest, MetadataRequestTopic
from tests.bench.engine import NullStore
from tests.bench.report import Row, at_most
from tests.support.data_path import DataPath

TOPICS = 1000
PARTITIONS = 10
VERSION = 12
GOAL_MS = 2.0
"""Of the first answer after a change as well: what has changed is made anew, and the rest is known."""


async def _measure(runs: int) -> dict[str, float]:
    """Milliseconds by how it is asked; the fastest tenth of the runs, as neighbours only ever add."""
    path = await DataPath(store=NullStore()).start()
    path.server.services = replace(path.services, controller=cast(Any, SimpleNamespace(leader=None)))
    names = [f"topic-{number:05}" for number in range(TOPICS)]
    made = [path.create_topic(name, PARTITIONS) for name in names]
    ids = [topic.topic_id for topic in made]
    asked = {
        "all topics": None,
        "1,000 topics named": [MetadataRequestTopic(name=name) for name in names],
        "1,000 topics by id": [MetadataRequestTopic(topic_id=topic_id, name=None) for topic_id in ids],
    }
    client = path.connect()
    results: dict[str, float] = {}
    for what, topics in asked.items():
        request = encode_request(APIS[ApiKey.METADATA], VERSION, 1, "bench", MetadataRequest(topics=topics))
        for changes in (False, True):
            times = []
            for number in range(runs):
                if changes:
                    topic = made[number % TOPICS]
                    path.replace_topic(replace(topic, replication_factor=topic.replication_factor))
                    for _ in range(10):
                        # What follows a change is not the answer's.
                        await asyncio.sleep(0)
                began = time.perf_counter()
                client.feed(request)
                while not client.frames():
                    await asyncio.sleep(0)
                times.append((time.perf_counter() - began) * 1e3)
            results[f"{what}, one has changed" if changes else what] = sorted(times)[len(times) // 10]
    await path.close()
    return results


def rows(*, quick: bool) -> Iterator[Row]:
    """All rows of the group."""
    for what, value in uvloop.run(_measure(20 if quick else 200)).items():
        yield at_most(f"Metadata of 10,000 partitions, {what}", value, "ms", GOAL_MS)
