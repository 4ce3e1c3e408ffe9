"""docs/metrics.md says what a broker shows, and a broker shows what it says."""

import asyncio
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from automq.s3stream.store.memory import MemoryStore
from automq.server.broker import Broker
from automq.server.lifecycle.states import State
from automq.server.observability.metrics_document import OTHERS, subject_of
from tests.support.generate_docs import DOCS
from tests.support.quiet_platform import QuietNetwork, quiet_broker

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

NAMES = re.compile(r"^\| `(automq_\w+)` \| (\w+) \|", re.MULTILINE)


async def serving() -> "tuple[Broker, asyncio.Task[None]]":
    broker = quiet_broker(MemoryStore(), network=QuietNetwork())
    task = asyncio.ensure_future(broker.run())
    while broker.lifecycle.state is not State.SERVING:
        await asyncio.sleep(0.01)
    return broker, task


async def test_every_family_on_the_page_is_documented_with_its_type() -> None:
    broker, task = await serving()
    page = (await broker.metrics.render_in_turns()).decode()
    broker.stop()
    await task
    documented = dict(NAMES.findall((DOCS / "metrics.md").read_text()))
    shown = {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in text_string_to_metric_families(page)
    }

    # The event loop's are those of a real one.
    real_only = {name for name in documented if name.startswith("automq_event_loop")}
    assert shown == {name: kind for name, kind in documented.items() if name not in real_only}
    assert all(family.help_text.strip() for family in broker.metrics.families.values())


async def test_families_without_series_are_those_of_groups_and_of_balanced_brokers() -> None:
    """Everything else is there before its first event."""
    broker, task = await serving()
    page = (await broker.metrics.render_in_turns()).decode()
    broker.stop()
    await task

    empty = {family.name for family in text_string_to_metric_families(page) if not family.samples}
    assert empty == {"automq_balancer_share", "automq_group_members", "automq_group_rebalances", "automq_group_lag"}


QUESTIONS = {
    "requests by API and error": {"automq_request_errors": ("api", "error"), "automq_request_seconds": ("api",)},
    "time queued, worked, waited and sent": {"automq_request_phase_seconds": ("api", "phase")},
    "bytes and records of a topic": {
        "automq_topic_in_bytes": ("topic",),
        "automq_topic_in_records": ("topic",),
        "automq_topic_out_bytes": ("topic",),
    },
    "lag, members and rebalances of a group": {
        "automq_group_lag": ("group", "topic"),
        "automq_group_members": ("group",),
        "automq_group_rebalances": ("group",),
    },
    "what is not uploaded": {"automq_not_uploaded_bytes": (), "automq_not_uploaded_age_seconds": ()},
    "arena and cache, their limits, hits and misses": {
        "automq_arena_held_bytes": (),
        "automq_memory_bytes": ("account",),
        "automq_memory_limit_bytes": ("account",),
        "automq_block_cache_bytes": (),
        "automq_block_cache_hits": (),
        "automq_block_cache_misses": (),
    },
    "state and reason": {"automq_state": ("state",), "automq_reason": ("reason",), "automq_ready": ()},
    "build": {"automq_build_info": ("version",)},
    "connections by listener": {"automq_connections": ("listener",)},
    "billed requests and bytes by purpose": {
        "automq_store_requests": ("operation", "purpose", "outcome"),
        "automq_store_sent_bytes": ("purpose",),
        "automq_store_received_bytes": ("purpose",),
    },
}
"""What a dashboard is made to answer, and by which labels of which families."""


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_dashboard_has_what_it_asks_for(question: str) -> None:
    broker, task = await serving()
    page = (await broker.metrics.render_in_turns()).decode()
    broker.stop()
    await task
    samples = {family.name: family.samples for family in text_string_to_metric_families(page)}
    families = {name.removesuffix("_total"): family for name, family in broker.metrics.families.items()}

    for name, labels in QUESTIONS[question].items():
        assert set(labels) <= set(families[name].labels), name
        # What belongs to no topic or group is there before its first event.
        assert samples[name] or {"topic", "group"} & set(labels), name


async def test_every_metric_has_its_heading() -> None:
    broker, task = await serving()
    broker.stop()
    await task

    assert [name for name in broker.metrics.families if subject_of(name) == OTHERS] == []


async def test_names_follow_prometheus_conventions() -> None:
    broker, task = await serving()
    broker.stop()
    await task
    for name, family in broker.metrics.families.items():
        assert re.fullmatch(r"automq_[a-z][a-z0-9_]*", name)
        assert (family.kind == "counter") == name.endswith("_total"), name
        if family.kind == "histogram":
            assert name.endswith("_seconds"), name
        assert not re.search(r"_(ms|kb|mb|millis\w*)(_|$)", name), "seconds and bytes"
        assert all(re.fullmatch(r"[a-z][a-z_]*", label) for label in family.labels)
