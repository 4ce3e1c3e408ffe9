"""The load generator: librdkafka, in C where the testbed has compiled its generator, else from Python.

`python -m tests.bench.load produce|consume ...` is the second form; both print one JSON object with the same fields.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.process import TESTBED_HOME

RECORD_BYTES = 1024
COMPILED = TESTBED_HOME / "bench/load"


def create_topic(address: str, topic: str, partitions: int = 16) -> None:
    admin = AdminClient({"bootstrap.servers": address, "log_level": 2})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(60)
    while len(admin.list_topics(topic, timeout=10).topics[topic].partitions) < partitions:
        time.sleep(0.01)


def run(
    mode: str,
    address: str,
    topic: str,
    partitions: int,
    *,
    clients: int = 1,
    properties: dict[str, str] | None = None,
    **options: float,
) -> dict[str, float]:
    """One load in a process of its own. Options: records (n), seconds (d), rate (r), record_bytes (s)."""
    (result,) = run_together(1, mode, address, topic, partitions, clients=clients, properties=properties, **options)
    return result


def command(
    mode: str,
    address: str,
    topic: str,
    partitions: int,
    clients: int,
    properties: Mapping[str, str],
    **options: float,
) -> list[str]:
    """What `run` runs."""
    letters = {"records": "-n", "seconds": "-d", "rate": "-r", "record_bytes": "-s"}
    found = [str(COMPILED)] if COMPILED.exists() else [sys.executable, "-m", "tests.bench.load"]
    found += [mode, "-b", address, "-t", topic, "-p", str(partitions), "-c", str(clients)]
    for name, value in options.items():
        found += [letters[name], f"{value:g}" if name == "seconds" else str(int(value))]
    for key, text in properties.items():
        found += ["-X", f"{key}={text}"]
    return found


def run_together(
    count: int,
    mode: str,
    address: str,
    topic: str,
    partitions: int,
    *,
    clients: int = 1,
    properties: dict[str, str] | None = None,
    **options: float,
) -> list[dict[str, float]]:
    """As `run`, of several such processes at once."""
    line = command(mode, address, topic, partitions, clients, properties or {}, **options)
    running = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    results: list[dict[str, float]] = [json.loads(each.communicate(timeout=600)[0]) for each in running]
    if failed := sum(result["failed"] for result in results):
        raise RuntimeError(f"{int(failed)} records failed: {' '.join(line)}")
    return results


def _report(
    began: float, records: int, failed: int, latencies_ms: list[float], record_bytes: int = RECORD_BYTES
) -> None:
    seconds = time.monotonic() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    latencies_ms.sort()

    def quantile(fraction: float) -> float:
        return latencies_ms[min(len(latencies_ms) - 1, int(len(latencies_ms) * fraction))] if latencies_ms else 0.0

    print(
        json.dumps(
            {
                "records": records,
                "failed": failed,
                "bytes": records * record_bytes,
                "MBps": records * record_bytes / seconds / 1e6,
                "rps": records / seconds,
                "client_cpu_s": usage.ru_utime + usage.ru_stime,
                "p50": quantile(0.5),
                "p99": quantile(0.99),
                "p999": quantile(0.999),
                "max": quantile(1.0),
                "mean": statistics.fmean(latencies_ms) if latencies_ms else 0.0,
            }
        )
    )


def produce(options: argparse.Namespace) -> None:
    """Round robin over the partitions, flat out or at a rate; latency counts from the moment a record was due."""
    latencies_ms: list[float] = []
    failed = 0

    def on_delivery(due: float) -> Any:
        def report(error: KafkaError | None, message: Message) -> None:
            nonlocal failed
            if error is not None:
                failed += 1
            else:
                latencies_ms.append((time.monotonic() - due) * 1e3)

        return report

    common = {
        "bootstrap.servers": options.b,
        "acks": "all",
        "linger.ms": 5,
        "batch.num.messages": 100_000,
        "queue.buffering.max.messages": 100_000,
        "queue.buffering.max.kbytes": 262_144,
        **dict(pair.split("=", 1) for pair in options.X),
    }
    producers = [Producer(common) for _ in range(options.c)]
    value = os.urandom(options.s)
    began = time.monotonic()
    sent = 0
    while (options.n is None or sent < options.n) and (options.d is None or time.monotonic() - began < options.d):
        producer = producers[sent % len(producers)]
        due = time.monotonic()
        if options.r:
            due = began + sent / options.r
            while (wait := due - time.monotonic()) > 0:
                producer.poll(wait)
        try:
            producer.produce(options.t, value, partition=sent % options.p, on_delivery=on_delivery(due))
        except BufferError:
            producer.poll(0.01)
            continue
        sent += 1
        if sent % 64 == 0:
            producer.poll(0)
    for producer in producers:
        producer.flush(60)
    _report(began, len(latencies_ms), failed, latencies_ms, options.s)


def consume(options: argparse.Namespace) -> None:
    """Every partition from its beginning, until `-n` records or `-d` seconds."""
    consumer = Consumer(
        {
            "bootstrap.servers": options.b,
            "group.id": "bench",
            "enable.auto.commit": False,
            "check.crcs": True,
            "auto.offset.reset": "earliest",
            "queued.min.messages": 1_000_000,
            "queued.max.messages.kbytes": 262_144,
            **dict(pair.split("=", 1) for pair in options.X),
        }
    )
    consumer.assign([TopicPartition(options.t, partition, 0) for partition in range(options.p)])
    began = time.monotonic()
    records = 0
    while (options.n is None or records < options.n) and time.monotonic() - began < (options.d or 60):
        records += len(consumer.consume(10_000, 0.1))
    _report(began, records, 0, [])
    consumer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["produce", "consume"])
    parser.add_argument("-b", required=True, help="bootstrap address")
    parser.add_argument("-t", required=True, help="topic")
    parser.add_argument("-p", type=int, default=16, help="partitions")
    parser.add_argument("-c", type=int, default=1, help="clients")
    parser.add_argument("-n", type=int, help="records")
    parser.add_argument("-s", type=int, default=RECORD_BYTES, help="bytes of a record")
    parser.add_argument("-d", type=float, help="seconds")
    parser.add_argument("-r", type=float, help="records a second")
    parser.add_argument("-X", action="append", default=[], help="librdkafka property=value")
    options = parser.parse_args()
    (produce if options.mode == "produce" else consume)(options)


if __name__ == "__main__":
    main()
