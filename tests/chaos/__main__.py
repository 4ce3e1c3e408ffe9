"""`python -m tests.chaos [--kills N] [--store URI] [--busy]`: kill -9 a broker under real clients, then judge the log.

Busy is with compressed batches, and beside commits of a thousand partitions, topics that come and go, and consumers
that take nothing.

`python -m tests.chaos --brokers N [--minutes M]`: everything that happens to a cluster, see `tests.chaos.cluster`.
"""

import argparse
import itertools
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from confluent_kafka.admin import AdminClient, NewTopic

from tests.chaos import beside, cluster
from tests.chaos.client_processes import ClientProcesses, end
from tests.chaos.verify import Journals, problems
from tests.support.process import Broker, cpu_s
from tests.support.real_s3 import find_server, run_real_s3
from tests.support.s3_server import run_s3_server

TOPIC, PARTITIONS = "chaos", 4


class Run:
    """One run: a broker, six clients, and what goes on beside them."""

    def __init__(
        self, folder: pathlib.Path, *, store: str | None, seed: int, rate: float, record_bytes: int, is_busy: bool
    ) -> None:
        settings: dict[str, object] = {"automq__upload__interval__ms": 1500}
        if store is not None:
            settings["automq__storage__uri"] = store
        self.folder, self.random = folder, random.Random(seed)
        self.broker = Broker(folder / "broker", **settings)
        self.clients = ClientProcesses(
            folder,
            self.broker.address,
            topic=TOPIC,
            partitions=PARTITIONS,
            rate=rate,
            record_bytes=record_bytes,
            is_compressed=is_busy,
        )
        self.others: list[subprocess.Popen[bytes]] = []
        self.start_cpu_s = 0.0
        """CPU of the broker until it served, the last time it was started."""

    def journal(self, what: str) -> pathlib.Path:
        return self.folder / f"beside-{what}.journal"

    def start_others(self) -> None:
        for what in beside.WHAT:
            command = [sys.executable, "-m", "tests.chaos.beside", what, "--bootstrap", self.broker.address]
            command += ["--topic", TOPIC, "--partitions", str(PARTITIONS), "--journal", str(self.journal(what))]
            with (self.folder / f"beside-{what}.log").open("ab") as log:
                self.others.append(subprocess.Popen(command, stdout=log, stderr=log))

    def problems_beside(self) -> list[str]:
        """Of those, when they have ended."""
        lines = {what: self.journal(what).read_text().splitlines() for what in beside.WHAT}
        done = {what: sum(1 for line in lines[what] if not line.startswith("failed")) for what in beside.WHAT}
        print(f"beside: {done}")
        idle = [f"{what} did nothing: the run shows nothing" for what in ("commits", "topics") if done[what] < 3]
        return idle + beside.problems(self.broker.address, lines["commits"], lines["topics"])

    def kill_and_start(self) -> float:
        """Let it serve for a random while, kill it, start it: the seconds until it serves again."""
        time.sleep(self.random.uniform(0.2, 2.5))
        self.broker.kill()
        took_s = self.broker.start()
        # What a start costs tells a log that grows from a machine that is busy with something else.
        self.start_cpu_s = sum(map(cpu_s, self.broker.pids))
        return took_s


def run(
    folder: pathlib.Path,
    *,
    kills: int,
    store: str | None,
    seed: int,
    rate: float,
    record_bytes: int = 0,
    is_busy: bool = False,
) -> list[str]:
    """The broken promises, in words."""
    chaos = Run(folder, store=store, seed=seed, rate=rate, record_bytes=record_bytes, is_busy=is_busy)
    clients = chaos.clients
    try:
        print(f"first start: {chaos.broker.start():.2f} s", flush=True)
        admin = AdminClient({"bootstrap.servers": chaos.broker.address})
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
        clients.start()
        if is_busy:
            beside.prepare(chaos.broker.address)
            chaos.start_others()
        times = []
        for number in range(kills):
            times.append(chaos.kill_and_start())
            print(
                f"kill {number + 1:3}/{kills}: serving again after {times[-1]:.2f} s "
                f"({chaos.start_cpu_s:.2f} s of CPU), "
                f"{clients.acked_count()} acknowledged",
                flush=True,
            )
        time.sleep(2)
        end(chaos.others, folder)
        clients.stop("produce")
        clients.wait_until_consumed()
        clients.stop("consume")
        acked = clients.acked()
        found = problems(clients.read_log(), Journals(acked=acked, consumed=clients.consumed()))
        if is_busy:
            found += chaos.problems_beside()
        found += clients.idle()
        print({name: len(sequences) for name, sequences in acked.items()}, f"longest restart {max(times):.2f} s")
        return found
    finally:
        clients.kill()
        for client in chaos.others:
            client.kill()
            client.wait()
        chaos.broker.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--store", help="a store URI with an empty prefix; default: a folder")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--rate", type=float, default=200.0, help="records a second and producer")
    parser.add_argument("--record-bytes", type=int, default=0, help="9000 with a high rate makes batches of a megabyte")
    parser.add_argument("--busy", action="store_true", help="compressed, and beside much else")
    parser.add_argument("--brokers", type=int, default=1, help="two and more are a cluster on an S3 server")
    parser.add_argument("--minutes", type=float, default=10.0, help="of a cluster")
    parser.add_argument("--only", default="", help="of a cluster: nothing but this fault, or these at once, by name")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="automq-chaos-"))
    print(f"seed {options.seed}, journals in {folder}", flush=True)
    if options.brokers > 1:
        return run_cluster(folder, options)
    found = run(
        folder,
        kills=options.kills,
        store=options.store,
        seed=options.seed,
        rate=options.rate,
        record_bytes=options.record_bytes,
        is_busy=options.busy,
    )
    for problem in found[:50]:
        print("BROKEN:", problem)
    print(f"chaos: {options.kills} kills, {len(found)} broken promises")
    return 1 if found else 0


def run_cluster(folder: pathlib.Path, options: argparse.Namespace) -> int:
    server_name = find_server("versitygw") and "versitygw"
    with run_real_s3(server_name, folder / "s3") if server_name else run_s3_server() as server:
        print(f"{options.brokers} brokers, store: {server_name or 'moto'}", flush=True)
        found = cluster.run(
            folder,
            server,
            brokers=options.brokers,
            seconds=options.minutes * 60,
            seed=options.seed,
            rate=options.rate,
            rounds=itertools.repeat(options.only.split(",")) if options.only else None,
        )
    for problem in found[:50]:
        print("BROKEN:", problem)
    print(f"chaos: {options.brokers} brokers, {options.minutes:g} minutes, {len(found)} broken promises")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
