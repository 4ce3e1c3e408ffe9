"""`python -m tests.demo [--seconds S]`: three brokers under load; two are added, one drained, two killed with -9.

Every step lasts `--seconds`. A live view says what each broker leads and takes; the summary says how long clients
waited at most in each step, and the picture shows it.
"""

import argparse
import pathlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable

from confluent_kafka.admin import AdminClient, NewTopic
from rich.console import Console
from rich.live import Live
from rich.table import Table

from automq.cli.client import RequestFailed
from tests.bench.cluster import Flow
from tests.demo.picture import Record, Sample, svg
from tests.support.cluster_admin import set_draining
from tests.support.cluster_processes import Member, Members, until

TOPIC, PARTITIONS = "demo", 60
RATE, RECORD_BYTES = 2000, 1000
STALL_S = 0.5
LOOK_S = 0.5
WAIT_S = 180.0


class Demo:
    """The cluster, its load, and what was seen of them."""

    def __init__(self, folder: pathlib.Path, console: Console, *, seconds: float, rate: float = RATE) -> None:
        self.folder, self.console, self.seconds, self.rate = folder, console, seconds, rate
        self.members = Members(*[self.member(node) for node in (1, 2, 3)])
        self.record = Record()
        self.lines: list[str] = []
        self._bytes: dict[int, float] = {}
        self._at = self.began = time.time()
        self._flow: Flow | None = None

    def member(self, node: int) -> Member:
        return Member(
            self.folder,
            node,
            f"file://{self.folder}/store",
            automq__memory__bytes=160 * 1024 * 1024,
            automq__balancer__interval__ms=2000,
        )

    def run(self) -> None:
        """All steps. Raises TimeoutError where the cluster does not do what it should."""
        self.members.start()
        admin = AdminClient({"bootstrap.servers": self.members.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(60)
        with Flow(self.members, TOPIC, PARTITIONS, rate=self.rate, record_bytes=RECORD_BYTES) as flow:
            self._flow, self.began = flow, time.time()
            self._at = self.began
            with Live(console=self.console, refresh_per_second=4) as live:
                self.step(live, "three brokers", lambda: None)
                self.step(live, "two more join", self.add_two, self.is_spread)
                self.step(live, "broker 4 is drained", self.drain, lambda: 4 not in self.led())
                self.step(live, "broker 5: kill -9", lambda: self.members.by_node[5].kill(), self.is_led)
                self.step(live, "controller: kill -9", self.kill_controller, self.is_led)
        if flow.failed.count:
            self.lines.append(f"{flow.failed.count} records FAILED")
        self.lines.append(f"{len(flow.acked_at):,} records acknowledged, {flow.failed.count} failed")

    def step(
        self, live: Live, name: str, begin: Callable[[], None], is_done: Callable[[], bool] = lambda: True
    ) -> None:
        """Begin it, look on until it is done and its time is up."""
        assert self._flow is not None
        began, done_s = time.time(), None
        self.record.events.append((began - self.began, name))
        begin()
        while done_s is None or time.time() - began < self.seconds:
            if time.time() - began > WAIT_S:
                raise TimeoutError(f"{name}: not done in {WAIT_S:g} s")
            live.update(self.view(name))
            try:
                if done_s is None and is_done():
                    done_s = time.time() - began
            except (RequestFailed, OSError):
                pass
            time.sleep(LOOK_S)
        stall_s = self._flow.stall_s(began, time.time())
        self.lines.append(f"{name}: done after {done_s:.1f} s, clients waited {stall_s:.2f} s at most")

    def view(self, name: str) -> Table:
        """A table, and a sample of the record."""
        now = time.time()
        led = self.led()
        table = Table(title=f"{now - self.began:.0f} s: {name}")
        for column in ("broker", "state", "leads", "MB/s in"):
            table.add_column(column)
        rates: dict[int, float] = {}
        controller = self.controller()
        for node, member in sorted(self.members.by_node.items()):
            state = str(member.readyz(0.5).get("state", "gone")) if member.is_running else "gone"
            rates[node] = self.megabytes_per_s(member, now) if state == "Serving" else 0.0
            mark = " (controller)" if node == controller else ""
            table.add_row(f"{node}{mark}", state, str(led.get(node, 0)), f"{rates[node]:.2f}")
        self._at = now
        assert self._flow is not None
        since = max(now - LOOK_S * 2, self.began)
        if self._flow.acked_at and now - self._flow.acked_at[-1] > STALL_S:
            self.record.stalls.append((self._flow.acked_at[-1] - self.began, now - self.began))
        table.caption = f"longest wait in the last second {self._flow.stall_s(since, now):.2f} s"
        self.record.samples.append(Sample(now - self.began, rates, dict(led)))
        return table

    def megabytes_per_s(self, member: Member, now: float) -> float:
        """MB/s since it was last asked for."""
        try:
            total = member.metric("automq_topic_in_bytes_total", topic=TOPIC)
        except OSError:
            return 0.0
        before = self._bytes.get(member.node, 0.0)
        self._bytes[member.node] = total
        return max(total - before, 0.0) / max(now - self._at, 0.05) / 1e6

    def led(self) -> Counter[int]:
        """Partitions by leader, as somebody says who can be asked."""
        for member in self.members.running:
            try:
                return Counter(member.led_by(TOPIC).values())
            except (RequestFailed, OSError):
                continue
        return Counter()

    def controller(self) -> int:
        for member in self.members.running:
            try:
                return member.metadata("-").controller_id
            except (RequestFailed, OSError):
                continue
        return -1

    def add_two(self) -> None:
        for node in (4, 5):
            self.members.by_node[node] = self.member(node)
            self.members.by_node[node].start()

    def is_spread(self) -> bool:
        """Each of the new ones leads two thirds of an equal share."""
        led = self.led()
        return min(led[4], led[5]) >= PARTITIONS / 5 * 2 / 3

    def drain(self) -> None:
        until(self.members.by_node[4].is_serving, WAIT_S, what="broker 4 serves")
        set_draining(self.members.by_node[4], is_draining=True)

    def kill_controller(self) -> None:
        member = self.members.by_node.get(self.controller(), self.members.by_node[1])
        self.record.events[-1] = self.record.events[-1][0], f"controller, broker {member.node}: kill -9"
        member.kill()

    def is_led(self) -> bool:
        """By brokers that run, all of it."""
        led = self.led()
        return led.total() == PARTITIONS and set(led) <= {member.node for member in self.members.running}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each of the five steps, at least")
    parser.add_argument("--picture", type=pathlib.Path, default=pathlib.Path("build/demo.svg"))
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="automq-demo-") as folder:
        demo = Demo(pathlib.Path(folder), console, seconds=options.seconds)
        try:
            demo.run()
        finally:
            demo.members.end()
            options.picture.parent.mkdir(parents=True, exist_ok=True)
            options.picture.write_text(svg(demo.record))
        for line in demo.lines:
            console.print(line)
        console.print(f"picture: {options.picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
