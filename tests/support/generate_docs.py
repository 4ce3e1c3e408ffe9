"""Writes the generated parts of docs/: what stands between `<!-- begin NAME -->` and `<!-- end NAME -->`.

`python -m tests.support.generate_docs`, or `make docs`; a test compares.
"""

import asyncio
import pathlib
from collections.abc import Callable, Mapping

from automq.runtime.stalls import ThreadStallWatch
from automq.s3stream.store.memory import MemoryStore
from automq.server.lifecycle.states import State
from automq.server.observability.face import SECTIONS_OF_DOCUMENT
from automq.server.observability.metrics_document import metrics_tables
from automq_operator.catalogue import CLUSTER, TOPIC
from automq_operator.generate import field_table, reason_table
from automq_operator.monitoring.alerts import runbook
from tests.support.quiet_platform import quiet_broker

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def metrics_of_a_broker() -> str:
    """Of one that serves: every component has declared its metrics by then."""
    return asyncio.run(_declared())


async def _declared() -> str:
    broker = quiet_broker(MemoryStore())
    broker.metrics.watch_process()
    ThreadStallWatch(broker.metrics)
    running = asyncio.ensure_future(broker.run())
    while broker.lifecycle.state is not State.SERVING:
        await asyncio.sleep(0.01)
    broker.stop()
    await running
    return metrics_tables(broker.metrics.families.values())


GENERATED: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "broker.md": SECTIONS_OF_DOCUMENT,
    "metrics.md": {"metrics": metrics_of_a_broker},
    "kubernetes.md": {
        "spec-fields": lambda: field_table(CLUSTER, "spec"),
        "status-fields": lambda: field_table(CLUSTER, "status"),
        "topic-fields": lambda: field_table(TOPIC, "spec"),
        "reasons": reason_table,
    },
    "runbook.md": {"alerts": runbook},
}


def with_sections(text: str, sections: Mapping[str, Callable[[], str]]) -> str:
    """`text` with every section written anew."""
    for name, generate in sections.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        assert text.count(begin) == text.count(end) == 1, f"the document has no section {name}, or two"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{generate()}\n\n{end}{rest.partition(end)[2]}"
    return text


def main() -> None:
    for name, sections in GENERATED.items():
        path = DOCS / name
        path.write_text(with_sections(path.read_text(), sections))


if __name__ == "__main__":
    main()
