"""The compiled functions; what they do is said by their twins."""

from array import array

from automq.core.produce_frame import Scanned
from automq.core.produced_batch import Placed, Taken
from automq.core.record_walk import Data
from automq.core.written_records import Pair

INTERFACE: int
HAS_CHECKSUM: bool

def walk_records(
    data: Data,
    first: int,
    stop: int,
    position: int,
    base_timestamp: int,
    earliest_ms: int,
    latest_ms: int,
    needs_keys: bool,
    /,
) -> tuple[int, int, int]: ...
def take_batch(
    records: Data,
    out: memoryview | None,
    position: int,
    base_offset: int,
    leader_epoch: int,
    bytes_max: int,
    earliest_ms: int,
    latest_ms: int,
    needs_keys: bool,
    walks: bool,
    /,
) -> Taken | None: ...
def put_record_header(
    out: memoryview,
    position: int,
    stream: int,
    epoch: int,
    base_offset: int,
    max_timestamp_ms: int,
    count: int,
    size: int,
    crc: int,
    slot_crc: int,
    /,
) -> int: ...
def place_received(
    data: Data,
    start: int,
    stop: int,
    out: memoryview,
    position: int,
    stream: int,
    epoch: int,
    base_offset: int,
    bytes_max: int,
    records_max: int,
    earliest_ms: int,
    latest_ms: int,
    needs_keys: bool,
    walks: bool,
    mark_ms: int,
    slot_crc: int,
    /,
) -> Placed | None: ...
def scan_produce(data: Data, start: int, end: int, frame_bytes_max: int, client: bytes, /) -> Scanned | None: ...
def match_fetch(data: Data, frame: bytes, epoch_at: int, /) -> tuple[int, int] | None: ...
def encode_produced(key: bytes, correlation_id: int, base_offset: int, log_start_offset: int, /) -> bytes: ...
def next_producer_entry(
    entry: bytes,
    epoch: int,
    first_sequence: int,
    count: int,
    first_offset: int,
    append_time_ms: int,
    now_ms: int,
    /,
) -> bytes | None: ...
def measure_batches(places: array[int], start: int, stop: int, bytes_max: int, total: int, /) -> tuple[int, int]: ...
def gather_batches(places: array[int], start: int, stop: int, arenas: list[memoryview], total: int, /) -> bytes: ...
def find_batch(data: Data, position: int, /) -> int: ...
def write_records(pairs: list[Pair], /) -> bytes: ...
