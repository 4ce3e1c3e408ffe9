"""`python -m tests.soak [--short]`: run it, print a line at each look, judge. Ends with 1 when something grew."""

import argparse
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

from tests.soak.figures import Sample, look
from tests.soak.plan import LONG, SHORT, Plan
from tests.soak.verify import LONG_GOALS, MB, SHORT_GOALS, Finding, judge
from tests.support.process import Broker


class Clients:
    """The load's process, and what it has told."""

    def __init__(self, bootstrap: str, name: str) -> None:
        command = [sys.executable, "-m", "tests.soak.load", bootstrap, name]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.produced = self.failed = 0
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                _, produced, _, failed = line.split()
                self.produced, self.failed = int(produced), int(failed)

    def stop(self) -> None:
        """Let it flush, then end."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._listener.join()


def soak(folder: pathlib.Path, name: str) -> tuple[list[Finding], Clients]:
    """Run the plan of that name; what was found, and what the clients did."""
    plan, goals = {"long": (LONG, LONG_GOALS), "short": (SHORT, SHORT_GOALS)}[name]
    broker = Broker(folder / "broker", **plan.settings)
    clients: Clients | None = None
    try:
        broker.start()
        clients = Clients(broker.address, name)
        samples = sample(broker, folder / "broker/store", plan, clients)
        clients.stop()
        return judge([found for found in samples if found.at_s >= plan.warm_s], goals), clients
    finally:
        if clients is not None and clients.process.poll() is None:
            clients.stop()
        broker.stop()


def sample(broker: Broker, store: pathlib.Path, plan: Plan, clients: Clients) -> list[Sample]:
    """Look again and again until the plan's time is over. Raises RuntimeError when the clients end before."""
    began = time.monotonic()
    samples: list[Sample] = []
    while (elapsed := time.monotonic() - began) < plan.seconds:
        if clients.process.poll() is not None:
            raise RuntimeError(f"the clients ended with {clients.process.returncode}")
        found = look(broker, store, at_s=elapsed, produced=clients.produced)
        samples.append(found)
        print(line_of(found), flush=True)
        time.sleep(max(0.0, plan.sample_s - (time.monotonic() - began - elapsed)))
    return samples


def line_of(found: Sample) -> str:
    """Fixed columns."""
    return (
        f"{found.at_s:7.1f} s  rss {found.rss / MB:6.1f} MB  cpu {found.cpu_s:7.2f} s  objects {found.objects:5d} "
        f"(kept {found.kept_objects:4d})  "
        f"ranges {found.ranges:6d}  stored {found.stored / MB:7.2f} readable {found.readable / MB:7.2f} MB  "
        f"metadata {found.metadata / MB:6.3f} MB  slots {found.slots:5d}  sent {found.sent / MB:8.2f} "
        f"produced {found.produced / MB:8.2f} MB"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--short", action="store_true", help="less than two minutes, with goals that fit")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="automq-soak-") as folder:
        findings, clients = soak(pathlib.Path(folder), "short" if options.short else "long")
    for finding in findings:
        print(finding)
    print(f"{clients.produced / MB:.1f} MB produced, {clients.failed} records failed")
    return 0 if all(finding.holds for finding in findings) and not clients.failed else 1


if __name__ == "__main__":
    sys.exit(main())
