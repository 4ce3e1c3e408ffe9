"""What a soak looks at: the process from outside, its metrics, and the metadata as they can be read in the bucket."""

import asyncio
import pathlib
from dataclasses import dataclass

from automq.ids import Offset
from automq.metadata.cluster import read_cluster_key
from automq.metadata.image import MetadataImage
from automq.metadata.loader import LogLoader
from automq.metadata.patience import Patience
from automq.runtime.entropy import SystemEntropy
from automq.runtime.tasks import Tasks
from automq.runtime.workers import InlineWorkers
from automq.s3stream.store.file import FileStore
from tests.soak.plan import NEVER_TRIMMED
from tests.support.process import Broker

SENT = "automq_store_sent_bytes_total"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look. Bytes, seconds of the run, CPU seconds since its start."""

    at_s: float
    rss: int
    cpu_s: float
    objects: int
    """Something refers to them: what waits for the next sweep or for the end of its grace period does not count."""
    kept_objects: int
    """Of these, those that hold nothing but streams that are never trimmed: they go when they are merged, or never."""
    ranges: int
    """Stretches of a stream in an object."""
    stored: int
    readable: int
    """Of what is stored, what a consumer can still ask for."""
    metadata: int
    """Log, snapshots, claims and lease, as they lie in the bucket."""
    slots: int
    """Of the write-ahead log."""
    sent: int
    """PUT so far, the write-ahead log excepted."""
    produced: int


def look(broker: Broker, store: pathlib.Path, *, at_s: float, produced: int) -> Sample:
    """Look at everything now. Raises when the metadata cannot be read: a log that moves on is read again."""
    image = asyncio.run(_image(store))
    live = [found for object_id, found in image.committed.items() if object_id not in image.unreferenced]
    streams_of = [{held.stream for held in image.ranges_of(found.object_id)} for found in live]
    kept = {part.stream for topic in image.topics() if topic.name in NEVER_TRIMMED for part in topic.partitions}
    readable = sum(readable_of(image, stream) for stream in image.streams)
    cluster = next(path for path in store.iterdir() if path.is_dir() and (path / "meta").is_dir())
    return Sample(
        at_s=at_s,
        rss=int(broker.rss_mb() * 1e6),
        cpu_s=broker.cpu_s(),
        objects=len(live),
        kept_objects=sum(holding <= kept for holding in streams_of),
        ranges=sum(map(len, streams_of)),
        stored=sum(found.size for found in live),
        readable=readable,
        metadata=_bytes_below(cluster / "meta"),
        slots=sum(1 for path in (cluster / "wal").rglob("*") if path.is_file()),
        sent=int(broker.metric(SENT) - broker.metric(SENT, purpose="wal")),
        produced=produced,
    )


def readable_of(image: MetadataImage, stream_id: int) -> int:
    """Committed bytes of a stream from its start on; of an object that it was trimmed within, by offsets."""
    state = image.streams[stream_id]  # type: ignore[index]
    spans = list(image.spans_of(state.stream).above(Offset(0)))
    total = 0.0
    for span in spans:
        kept = span.end - max(span.start, state.start)
        total += span.size * max(0, kept) / (span.end - span.start)
    return int(total)


async def _image(folder: pathlib.Path) -> MetadataImage:
    store = FileStore(str(folder), workers=InlineWorkers(), entropy=SystemEntropy())
    tasks = Tasks("soak", on_crash=lambda _name, _error: None)
    try:
        found = await read_cluster_key(store)
        assert found is not None
        entropy = SystemEntropy()
        patience = Patience(entropy=entropy, on_store=lambda _error: None)
        loader = LogLoader(store=store, cluster_id=found.cluster_id, entropy=entropy, patience=patience, tasks=tasks)
        return (await loader.read()).image
    finally:
        await tasks.close()
        await store.close()


def _bytes_below(folder: pathlib.Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
