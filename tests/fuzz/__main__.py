"""`python -m tests.fuzz [--inputs N] [--compared N] [--seed S]`: prints what it did, or the input that failed.

What is left of `--inputs` beyond `--compared` only runs the compiled functions, and looks for crashes. With
AUTOMQ_SANITIZE=1 at `make dev`, and the sanitizer's library preloaded, every read and write is checked (`make fuzz`).
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from automq import core
from automq.core import cached_batches, fetch_frame, produce_frame, produced_batch, record_walk
from automq.s3stream.wal.format import RECORD_HEADER_BYTES
from tests.fuzz.records import Place, Take, finds, gathers, matches, places, scans, takes, walks

FILL = 0xA5


def taken(take_batch: core.TakeBatch, take: Take) -> tuple[produced_batch.Taken | None, bytes | None]:
    """What it answers, and the bytes that were written if it took the batch; all others must be as they were."""
    if take.out_bytes is None:
        return take_batch(take.records, None, *take[2:]), None
    out = bytearray([FILL]) * take.out_bytes
    found = take_batch(take.records, memoryview(out), *take[2:])
    end = take.position + len(take.records)
    if found is None:
        # What lies in the batch's own place means nothing then.
        out[take.position : end] = bytes(len(out[take.position : end]))
    assert set(out[: take.position] + out[end:]) <= {FILL}, f"written outside its place: {take!r}"
    return found, bytes(out)


def placed(place_received: core.PlaceReceived, place: Place) -> tuple[produced_batch.Placed | None, bytes | None]:
    """As `taken`."""
    out = bytearray([FILL]) * place.out_bytes
    found = place_received(*place[:3], memoryview(out), *place[4:])
    start = max(0, place.position)
    end = start + RECORD_HEADER_BYTES + max(0, place.stop - place.start)
    if found is None:
        out[start:end] = bytes(len(out[start:end]))
    assert set(out[:start] + out[end:]) <= {FILL}, f"written outside its place: {place!r}"
    return found, bytes(out)


def outcome_of(function: Callable[..., Any], *arguments: Any) -> Any:
    """What it gives; ValueError where it raises that."""
    try:
        return function(*arguments)
    except ValueError:
        return ValueError


def inputs_of(seed: int) -> Iterator[tuple[Any, Any, bool]]:
    """What the compiled function gives, a way to ask its twin, and whether the input was taken whole."""
    assert core.native is not None, f"there is nothing to fuzz: {core.why_pure}"
    native = core.native
    streams = walks(seed), takes(seed), places(seed), scans(seed), gathers(seed), finds(seed), matches(seed)
    for walk, take, place, scan, gather, find, match in zip(*streams, strict=False):
        found = native.walk_records(*walk)
        yield found, lambda walk=walk: record_walk.walk_records(*walk), found[1] == walk.stop
        if native.HAS_CHECKSUM:
            answer = taken(native.take_batch, take)
            yield answer, lambda take=take: taken(produced_batch.take_batch, take), answer[0] is not None
            answer = placed(native.place_received, place)
            yield answer, lambda place=place: placed(produced_batch.place_received, place), answer[0] is not None
        scanned = native.scan_produce(*scan)
        yield scanned, lambda scan=scan: produce_frame.scan_produce(*scan), scanned is not None
        matched = native.match_fetch(*match)
        yield matched, lambda match=match: fetch_frame.match_fetch(*match), matched is not None
        for name, arguments in (
            ("measure_batches", gather.measure),
            ("gather_batches", gather.gather),
            ("find_batch", find),
        ):
            outcome = outcome_of(getattr(native, name), *arguments)
            twin = partial(outcome_of, getattr(cached_batches, name), *arguments)
            yield outcome, twin, outcome is not ValueError


def run(*, inputs: int, compared: int, seed: int) -> int:
    """How many inputs were taken. Raises AssertionError with the first on which twins disagree."""
    whole = 0
    for number, (found, ask_twin, is_whole) in enumerate(itertools.islice(inputs_of(seed), inputs)):
        whole += is_whole
        if number < compared:
            expected = ask_twin()
            assert found == expected, f"seed {seed}, input {number}: {found}, its twin {expected}"
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--compared", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    whole = run(inputs=options.inputs, compared=options.compared, seed=options.seed)
    print(
        f"{options.inputs:,} inputs, {min(options.compared, options.inputs):,} of them against the twin, {whole:,} of "
        f"them taken, {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
