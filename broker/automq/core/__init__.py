"""What is done for every produced batch, compiled where there was a compiler, else in Python.

The compiled functions (`_native.pyx`, typed Cython, and `checksum.h`) do no I/O, hold no Python object longer than a
call, keep no state and decide nothing that a config may decide. Each has its twin in Python beside it: what a reader
reads, what runs where nothing was compiled, and what tests hold the compiled one against. A compiled function that
refuses says only that it does; the twin, or what stands around it, says why.

`pip install` compiles when it finds a compiler. AUTOMQ_PURE=1 switches the compiled functions off.
"""

import os
from array import array
from collections.abc import Callable
from types import ModuleType
from typing import Final

from automq.core import cached_batches, fetch_frame, produce_frame, produced_batch, record_walk, written_records
from automq.core.produce_frame import Scanned
from automq.core.produced_batch import Placed, Taken
from automq.core.record_walk import Data
from automq.core.written_records import Pair

INTERFACE: Final = 6
"""Raised with every change of what a compiled function takes or gives: an older build is not used."""


def _find_native() -> tuple[ModuleType | None, str]:
    """The compiled module, or None and why it is not used."""
    if os.environ.get("AUTOMQ_PURE", "0") not in ("", "0"):
        return None, "AUTOMQ_PURE is set"
    try:
        from automq.core import _native
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError) or "cannot import name" in str(error)
        return None, "it was not compiled" if is_absent else f"it cannot be loaded: {error}"
    found = getattr(_native, "INTERFACE", None)
    if found != INTERFACE:
        return None, "it was compiled from another version of its source; install again"
    return _native, ""


_module, reason = _find_native()

native: Final = _module
"""The compiled module when it is used."""
kind: Final = "pure" if native is None else "native"
why_pure: Final = reason
"""Why the compiled functions are not used; empty when they are."""
description: Final = "native core" if native is not None else f"pure Python: {why_pure}"

WalkRecords = Callable[[Data, int, int, int, int, int, int, bool], tuple[int, int, int]]
TakeBatch = Callable[[Data, memoryview | None, int, int, int, int, int, int, bool, bool], Taken | None]
PutRecordHeader = Callable[[memoryview, int, int, int, int, int, int, int, int, int], int]
PlaceReceived = Callable[
    [Data, int, int, memoryview, int, int, int, int, int, int, int, int, bool, bool, int, int], Placed | None
]
NextProducerEntry = Callable[[bytes, int, int, int, int, int, int], bytes | None]
ScanProduce = Callable[[Data, int, int, int, bytes], Scanned | None]
EncodeProduced = Callable[[bytes, int, int, int], bytes]
MatchFetch = Callable[[Data, bytes, int], tuple[int, int] | None]
MeasureBatches = Callable[["array[int]", int, int, int, int], tuple[int, int]]
GatherBatches = Callable[["array[int]", int, int, list[memoryview], int], bytes]
FindBatch = Callable[[Data, int], int]
WriteRecords = Callable[[list[Pair]], bytes]

walk_records: WalkRecords = record_walk.walk_records if native is None else native.walk_records
RECORDS_PER_MS: Final = 1_000 if native is None else 60_000
"""About as many small records are walked in a millisecond."""

# The compiled ones sum by an instruction that not every processor has.
_summing = native if native is not None and native.HAS_CHECKSUM else None
take_batch: TakeBatch = produced_batch.take_batch if _summing is None else _summing.take_batch
put_record_header: PutRecordHeader = (
    produced_batch.put_record_header if _summing is None else _summing.put_record_header
)
place_received: PlaceReceived = produced_batch.place_received if _summing is None else _summing.place_received
next_producer_entry: NextProducerEntry = (
    produced_batch.next_producer_entry if native is None else native.next_producer_entry
)
scan_produce: ScanProduce = produce_frame.scan_produce if native is None else native.scan_produce
encode_produced: EncodeProduced = produce_frame.encode_produced if native is None else native.encode_produced
match_fetch: MatchFetch = fetch_frame.match_fetch if native is None else native.match_fetch

measure_batches: MeasureBatches = cached_batches.measure_batches if native is None else native.measure_batches
gather_batches: GatherBatches = cached_batches.gather_batches if native is None else native.gather_batches
find_batch: FindBatch = cached_batches.find_batch if native is None else native.find_batch

write_records: WriteRecords = written_records.write_records if native is None else native.write_records
