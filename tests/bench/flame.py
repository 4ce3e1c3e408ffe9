"""`python -m tests.bench.flame [ROW...]`: where a broker's CPU goes under a bench row, as build/flame-ROW.svg.

By py-spy, which is no dependency: `pip install py-spy` into any environment on the PATH, or into this one. Without it
the row is SKIPPED, and says so. Only threads that hold the interpreter are sampled; what the kernel does for others is
not seen (`perf record -g -p PID` sees that).
"""

import contextlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from tests.bench import load
from tests.bench.load import create_topic
from tests.bench.readers import IDLE, consumers
from tests.support.process import ROOT, Broker

PARTITIONS = 16
SECONDS = 8
SAMPLES_PER_S = 400
TOPIC = "t"

Load = Callable[[Broker], contextlib.AbstractContextManager[None]]


def producing(clients: int = 1, **properties: str) -> Load:
    """Flat out, for longer than is sampled."""

    @contextlib.contextmanager
    def run(broker: Broker) -> Iterator[None]:
        named = {name.replace("_", "."): value for name, value in properties.items()}
        command = load.command("produce", broker.address, TOPIC, PARTITIONS, clients, named, seconds=SECONDS + 4)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(2)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    return run


@contextlib.contextmanager
def idle(broker: Broker) -> Iterator[None]:
    """A thousand consumers that poll in vain."""
    with consumers("idle", broker.address, TOPIC, IDLE):
        yield


ROWS: dict[str, Load] = {
    "16-kb-batches": producing(batch_size="16384"),
    "64-kb-batches": producing(batch_size="65536"),
    "up-to-1-mb-batches": producing(batch_size="1000000"),
    "one-record-requests": producing(8, linger_ms="0", batch_num_messages="1", queue_buffering_max_messages="2000"),
    "idle-consumers": idle,
}


def sampler() -> str | None:
    """py-spy, of this environment or of the PATH."""
    own = pathlib.Path(sys.executable).with_name("py-spy")
    return str(own) if own.exists() else shutil.which("py-spy")


def record(name: str, py_spy: str, folder: pathlib.Path) -> str:
    """What became of the row."""
    target = ROOT / f"build/flame-{name}.svg"
    target.parent.mkdir(exist_ok=True)
    broker = Broker(folder / name)
    try:
        broker.start()
        create_topic(broker.address, TOPIC, PARTITIONS)
        with ROWS[name](broker):
            options = ["--gil", "--rate", str(SAMPLES_PER_S), "--duration", str(SECONDS), "--output", str(target)]
            command = [py_spy, "record", *options, "--pid", str(broker.pids[0])]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    finally:
        broker.stop()
    if done.returncode:
        return f"SKIPPED: py-spy may not look at the broker: {done.stderr.strip().splitlines()[-1:]}"
    return str(target.relative_to(ROOT))


def main() -> int:
    names = sys.argv[1:] or list(ROWS)
    if unknown := set(names) - set(ROWS):
        sys.exit(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    py_spy = sampler()
    with tempfile.TemporaryDirectory(prefix="automq-flame-") as folder:
        for name in names:
            found = "SKIPPED: py-spy is not installed" if py_spy is None else record(name, py_spy, pathlib.Path(folder))
            print(f"{name:22} {found}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
