"""Several brokers on one bucket under everything that happens to clusters at once: `make chaos BROKERS=3`.

Faults follow one another, sometimes two at a time: kill -9 of one broker, of two, of the controller; pauses past the
session; the way to the store refused, silent, without answers, slow or answered 503, for one broker or for all; brokers
that do not hear one another, in both directions or in one; rolling restarts; drains. Whoever ends is started again, as
a supervisor does. Beside the promises to clients it is judged that the cluster heals once nothing is done to it, that
an orderly exit is one, that no process ends for a reason that is not among the expected ones, and that none logs a bug.
"""

import itertools
import pathlib
import random
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from confluent_kafka.admin import AdminClient, NewTopic

from tests.chaos.client_processes import ClientProcesses
from tests.chaos.verify import Journals, problems
from tests.chaos.wires import SILENCE, STORE, Trouble, Wires
from tests.support.cluster_admin import set_draining
from tests.support.cluster_processes import FENCED_CODE, Member, Members, until
from tests.support.process import free_port
from tests.support.s3_server import REGION, S3Server, write_credentials

TOPIC, PARTITIONS = "chaos", 12
HEAL_S = 300.0
"""A cluster of whom nobody wants anything is whole again by then, on a machine that has much else to do."""
SESSION_S = 3.0
EXPECTED_CODES = {0, FENCED_CODE}
"""With which a broker may end by itself, or because it was fenced: the others have gone on without it."""
BUGS = re.compile(r"^Traceback|CRITICAL|background task crashed|request failed unexpectedly|because of a bug", re.M)

Pairs = list[tuple[int, int]]


class Cluster:
    """Brokers behind proxies, who starts them again, and what was found to be wrong."""

    def __init__(self, folder: pathlib.Path, server: S3Server, *, brokers: int, dice: random.Random) -> None:
        self.dice, self.began = dice, time.monotonic()
        self.wires = Wires(random.Random(dice.random()))
        bucket = server.make_bucket()
        store_port = int(server.endpoint.rpartition(":")[2])
        credentials = write_credentials(folder / "credentials")
        members = []
        for node in range(1, brokers + 1):
            way, entrance = free_port(), free_port()
            uri = f"s3://{bucket}/chaos?endpoint=http://127.0.0.1:{way}&region={REGION}"
            member = Member(
                folder,
                node,
                uri,
                automq__internal__advertised__listener=f"127.0.0.1:{entrance}",
                automq__storage__credentials__dir=credentials,
                automq__memory__bytes=128 * 1024 * 1024,
                automq__upload__interval__ms=3000,
                automq__balancer__interval__ms=3000,
                log__retention__check__interval__ms=5000,
            )
            self.wires.way_to_store(node, store_port, way)
            self.wires.entrance(node, member.internal_port, entrance)
            members.append(member)
        self.members = Members(*members)
        self.wires.pids = lambda: {each.node: each.pid for each in members if each.is_running}
        self.admin = AdminClient({"bootstrap.servers": self.members.bootstrap, "log_level": 0})
        self.found: list[str] = []
        self.codes: Counter[int] = Counter()
        """With which brokers ended by themselves."""
        self.fenced = 0
        """Brokers that were, while they lived."""
        self._fenced_now: set[int] = set()
        self.down: set[int] = set()
        """Who is not to be started again now."""
        self._is_over = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor")

    def say(self, *words: object) -> None:
        print(f"{time.monotonic() - self.began:7.1f} s", *words, flush=True)

    def start(self) -> None:
        self.members.start()
        self._supervisor.start()

    def close(self) -> None:
        self._is_over.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        self.members.end()
        self.wires.close()

    def _supervise(self) -> None:
        while not self._is_over.wait(0.2):
            for member in self.members.all:
                if member.node in self.down or member.is_paused:
                    continue
                if member.is_running:
                    self._note_fence(member)
                else:
                    assert member.process is not None
                    self._note_end(member, member.process.returncode)
                    member.start()

    def _note_fence(self, member: Member) -> None:
        """One that was fenced while it lived serves nobody for a moment, and begins anew by itself."""
        is_fenced = member.readyz(0.2).get("state") == "Fenced"
        if is_fenced and member.node not in self._fenced_now:
            self.say(f"broker {member.node} was fenced")
            self.fenced += 1
        (self._fenced_now.add if is_fenced else self._fenced_now.discard)(member.node)

    def _note_end(self, member: Member, code: int) -> None:
        self.codes[code] += 1
        self.say(f"broker {member.node} ended with {code}")
        if code not in EXPECTED_CODES:
            self.found.append(f"broker {member.node} ended with {code}: {member.log.read_text()[-500:]}")

    def leaders(self, member: Member) -> dict[tuple[str, int], int]:
        return member.led_by(TOPIC)

    def is_whole(self) -> bool:
        """All serve, nobody is fenced, they agree who leads what, and every partition has a leader."""
        if not self.members.are_serving():
            return False
        described = self.members.all[0].described()
        if sorted(each.broker_id for each in described.brokers if not each.is_fenced) != sorted(self.members.by_node):
            return False
        said = [self.leaders(member) for member in self.members.all]
        return len(said[0]) == PARTITIONS and all(each == said[0] for each in said) and -1 not in said[0].values()

    def heal(self) -> None:
        """Wait until it has healed."""
        try:
            took_s = until(self.is_whole, HEAL_S, what="the cluster heals")
            self.say(f"whole after {took_s:.1f} s, led {dict(Counter(self.leaders(self.members.all[0]).values()))}")
        except TimeoutError:
            bodies = {member.node: member.readyz() for member in self.members.all}
            self.found.append(f"not whole {HEAL_S:g} s after the last fault: {bodies}")
            raise

    def bugs(self) -> list[str]:
        """What a log says that none should."""
        found = []
        for member in self.members.all:
            text = member.log.read_text()
            for match in itertools.islice(BUGS.finditer(text), 3):
                found.append(
                    f"broker {member.node} logged a bug: {text[max(0, match.start() - 300) : match.end() + 1500]}"
                )
        return found


class Faults:
    """Each method begins a fault and returns how to end it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.dice, self.members = cluster, cluster.dice, cluster.members

    def kill(self) -> Callable[[], None]:
        return self._kill(self.dice.choice(self.members.all))

    def kill_two(self) -> Callable[[], None]:
        return self._kill(*self.dice.sample(self.members.all, 2))

    def kill_controller(self) -> Callable[[], None]:
        return self._kill(self._controller())

    def kill_all(self) -> Callable[[], None]:
        return self._kill(*self.members.all)

    def kill_briefly(self) -> Callable[[], None]:
        """Its supervisor is faster than its session."""
        self._kill(self.dice.choice(self.members.all))()
        return lambda: None

    def pause(self) -> Callable[[], None]:
        return self._pause(self.dice.choice(self.members.all))

    def pause_controller(self) -> Callable[[], None]:
        return self._pause(self._controller())

    def cut_from_store(self) -> Callable[[], None]:
        node, (name, trouble) = self.dice.choice(list(self.members.by_node)), self.dice.choice(STORE_TROUBLES)
        return self._cut([(node, STORE)], trouble, f"broker {node} and the store: {name}")

    def store_away(self) -> Callable[[], None]:
        name, trouble = self.dice.choice(STORE_TROUBLES)
        return self._cut([(node, STORE) for node in self.members.by_node], trouble, f"all and the store: {name}")

    def isolate(self) -> Callable[[], None]:
        node = self.dice.choice(list(self.members.by_node))
        others = [other for other in self.members.by_node if other != node]
        pairs = [(node, other) for other in others] + [(other, node) for other in others]
        return self._cut_brokers(pairs, f"broker {node} and the others")

    def cut_pair(self) -> Callable[[], None]:
        one, other = self.dice.sample(list(self.members.by_node), 2)
        return self._cut_brokers([(one, other), (other, one)], f"brokers {one} and {other}")

    def cut_one_way(self) -> Callable[[], None]:
        one, other = self.dice.sample(list(self.members.by_node), 2)
        return self._cut_brokers([(one, other)], f"from broker {one} to {other}")

    def roll(self) -> Callable[[], None]:
        """Each in turn is stopped and started; one must be back before the next."""
        for member in self.members.all:
            self._stop(member)
            member.start()
            self.cluster.down.discard(member.node)
            until(member.is_serving, HEAL_S, what=f"broker {member.node} serves after SIGTERM")
        return lambda: None

    def drain(self) -> Callable[[], None]:
        """Until it leads nothing; ends when it may lead again."""
        member = self.dice.choice(self.members.all)
        self.cluster.say(f"drain broker {member.node}")
        self._set_draining(member, is_draining=True)

        def is_empty() -> bool:
            return member.node not in self.cluster.leaders(self.dice.choice(self.members.running)).values()

        took_s = until(is_empty, HEAL_S, what=f"broker {member.node} is drained")
        self.cluster.say(f"broker {member.node} is drained after {took_s:.1f} s")
        return lambda: self._set_draining(member, is_draining=False)

    def _set_draining(self, member: Member, *, is_draining: bool) -> None:
        """Asked again until it is done."""

        def is_set() -> bool:
            set_draining(member, is_draining=is_draining)
            return True

        until(is_set, HEAL_S, what="a config of a broker is set")

    def _controller(self) -> Member:
        """Any broker, where they do not agree on one."""
        return self.members.by_node.get(self.cluster.members.controller()) or self.dice.choice(self.members.all)

    def _stop(self, member: Member) -> None:
        self.cluster.say(f"SIGTERM to broker {member.node}")
        self.cluster.down.add(member.node)
        try:
            code = member.stop()
        except subprocess.TimeoutExpired:
            self.cluster.found.append(f"broker {member.node} did not end 60 s after SIGTERM")
            return
        if code not in (-signal.SIGTERM, *EXPECTED_CODES):
            self.cluster._note_end(member, code)

    def _kill(self, *members: Member) -> Callable[[], None]:
        nodes = {member.node for member in members}
        self.cluster.say(f"kill -9 of {sorted(nodes)}")
        self.cluster.down |= nodes
        for member in members:
            member.signal(signal.SIGKILL)
        for member in members:
            member.kill()

        def end() -> None:
            for member in members:
                member.start()
            self.cluster.down -= nodes

        return end

    def _pause(self, member: Member) -> Callable[[], None]:
        self.cluster.say(f"broker {member.node} is paused")
        member.signal(signal.SIGSTOP)

        def end() -> None:
            self.cluster.say(f"broker {member.node} goes on")
            member.signal(signal.SIGCONT)

        return end

    def _cut_brokers(self, pairs: Pairs, what: str) -> Callable[[], None]:
        name, trouble = self.dice.choice(BROKER_TROUBLES)
        return self._cut(pairs, trouble, f"{what}: {name}")

    def _cut(self, pairs: Pairs, trouble: Trouble, what: str) -> Callable[[], None]:
        self.cluster.say(what)
        self.cluster.wires.begin(trouble, pairs)
        reset = self.dice.random() < 0.5
        return lambda: self.cluster.wires.end(pairs, reset=reset)


STORE_TROUBLES = [
    ("refused", Trouble(is_refused=True)),
    ("silent", SILENCE),
    ("without answers", Trouble(holds_answers=True)),
    ("slow", Trouble(delay_s=0.3)),
    ("503", Trouble(busy_share=1.0)),
    ("503 now and then", Trouble(busy_share=0.5)),
]
BROKER_TROUBLES = [
    ("refused", Trouble(is_refused=True)),
    ("silent", SILENCE),
    ("without answers", Trouble(holds_answers=True)),
    ("without requests", Trouble(holds_requests=True)),
    ("slow", Trouble(delay_s=0.5)),
]

Begin = Callable[[Faults], Callable[[], None]]
ALONE: dict[str, Begin] = {"roll": Faults.roll, "drain": Faults.drain, "kill all": Faults.kill_all}
"""These wait for others, or leave nobody to wait for."""
TOGETHER: dict[str, Begin] = {
    "kill": Faults.kill,
    "kill two": Faults.kill_two,
    "kill the controller": Faults.kill_controller,
    "kill briefly": Faults.kill_briefly,
    "pause": Faults.pause,
    "pause the controller": Faults.pause_controller,
    "cut from the store": Faults.cut_from_store,
    "store away": Faults.store_away,
    "isolate": Faults.isolate,
    "cut a pair": Faults.cut_pair,
    "cut one way": Faults.cut_one_way,
}


def schedule(dice: random.Random) -> Iterator[list[str]]:
    """All of them in an order of chance, then all of them again; now and then two at a time."""
    while True:
        names = [*ALONE, *TOGETHER, *TOGETHER]
        dice.shuffle(names)
        while names:
            name = names.pop()
            pair = [name]
            if name in TOGETHER and dice.random() < 0.25:
                other = dice.choice(list(TOGETHER))
                if not ("kill" in name and "kill" in other):
                    pair.append(other)
            yield pair


def afflict(cluster: Cluster, faults: Faults, names: list[str]) -> None:
    """Begin them, wait, end them."""
    ends = []
    try:
        for name in names:
            ends.append({**ALONE, **TOGETHER}[name](faults))
        # Below and above the session.
        time.sleep(cluster.dice.choice([0.5, SESSION_S, SESSION_S + 1.5, 2 * SESSION_S + 1]))
    finally:
        for end in ends:
            end()


def run(
    folder: pathlib.Path,
    server: S3Server,
    *,
    brokers: int,
    seconds: float,
    seed: int,
    rate: float,
    rounds: Iterable[list[str]] | None = None,
) -> list[str]:
    """The broken promises, in words. Without `rounds`, which names faults that begin together, as `schedule` says."""
    dice = random.Random(seed)
    cluster = Cluster(folder, server, brokers=brokers, dice=dice)
    clients = ClientProcesses(folder, cluster.members.bootstrap, topic=TOPIC, partitions=PARTITIONS, rate=rate)
    counts: Counter[str] = Counter()
    try:
        cluster.start()
        cluster.admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
        clients.start()
        until(lambda: clients.acked_count() > 100, 60, what="producers are acknowledged")
        faults, deadline = Faults(cluster), time.monotonic() + seconds
        for names in schedule(dice) if rounds is None else rounds:
            if time.monotonic() > deadline:
                break
            counts.update(names)
            afflict(cluster, faults, names)
            if dice.random() < 0.7:
                cluster.heal()
                time.sleep(dice.uniform(0, 3))
        cluster.heal()
        clients.stop("produce")
        clients.wait_until_consumed()
        clients.stop("consume")
        acked = clients.acked()
        found = problems(clients.read_log(), Journals(acked=acked, consumed=clients.consumed()))
        found += [f"{name} gave up {len(lines)}: {lines[0]}" for name, lines in clients.failed().items() if lines]
        found += clients.idle()
        cluster.say(dict(counts))
        cluster.say("acknowledged", {name: len(sequences) for name, sequences in acked.items()})
        cluster.say(f"fenced alive {cluster.fenced} times; ended by themselves, by exit code: {dict(cluster.codes)}")
        return found + cluster.found + cluster.bugs()
    except TimeoutError as error:
        return [*cluster.found, f"{error}", *cluster.bugs()]
    finally:
        clients.kill()
        cluster.close()
