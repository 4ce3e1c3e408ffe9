"""The short form of `make chaos BROKERS=3` (with AUTOMQ_TEST_CHAOS=1), and what its proxies do to connections."""

import contextlib
import os
import pathlib
import random
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.chaos.cluster import ALONE, TOGETHER, run, schedule
from tests.chaos.wires import SILENCE, STORE, Trouble, Wires, owner_of
from tests.support.process import free_port
from tests.support.s3_server import run_s3_server

WAIT_S = 30
SHORT = [["pause the controller"], ["isolate"], ["kill two"]]


@pytest.mark.skipif(
    "AUTOMQ_TEST_CHAOS" not in os.environ,
    reason="three brokers, six clients and a store want a machine of their own: AUTOMQ_TEST_CHAOS=1 runs it",
)
@pytest.mark.timeout(900)
def test_nothing_is_lost_when_brokers_die_sleep_and_lose_one_another(tmp_path: pathlib.Path) -> None:
    with run_s3_server() as server:
        assert run(tmp_path, server, brokers=3, seconds=600, seed=1, rate=20.0, rounds=SHORT) == []


def test_every_fault_has_its_turn() -> None:
    rounds = schedule(random.Random(1))
    begun = [name for _ in range(len(ALONE) + 2 * len(TOGETHER)) for name in next(rounds)]

    assert {*ALONE, *TOGETHER} == set(begun)


class Echo:
    """A server that says back what it is told, and a connection to it through a proxy."""

    def __init__(self, wires: Wires, source: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        self.port = free_port()
        wires.way_to_store(source, self._listener.getsockname()[1], self.port)

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(near,), daemon=True).start()

    @staticmethod
    def _answer(near: socket.socket) -> None:
        with near, contextlib.suppress(ConnectionError):
            while data := near.recv(100):
                near.sendall(data)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires(random.Random(1))
    yield made
    made.close()


@pytest.fixture
def echo(wires: Wires) -> Iterator[Echo]:
    made = Echo(wires, source=1)
    yield made
    made.close()


def test_what_is_held_back_arrives_late(wires: Wires, echo: Echo) -> None:
    with echo.connect() as connection:
        for trouble in (SILENCE, Trouble(holds_requests=True), Trouble(holds_answers=True)):
            wires.begin(trouble, [(1, STORE)])
            connection.sendall(b"asked")
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(100)

            wires.end([(1, STORE)], reset=False)
            connection.settimeout(WAIT_S)
            assert connection.recv(100) == b"asked"


def test_what_is_held_back_is_lost_with_a_reset(wires: Wires, echo: Echo) -> None:
    with echo.connect() as connection:
        wires.begin(SILENCE, [(1, STORE)])
        connection.sendall(b"asked")
        wires.end([(1, STORE)], reset=True)
        with pytest.raises(ConnectionResetError):
            connection.recv(100)


def test_other_pairs_are_not_touched(wires: Wires, echo: Echo) -> None:
    wires.begin(Trouble(is_refused=True), [(2, STORE), (STORE, 1)])
    with echo.connect() as connection:
        connection.sendall(b"asked")
        assert connection.recv(100) == b"asked"


def test_refused_connections_end_and_are_taken_again(wires: Wires, echo: Echo) -> None:
    with echo.connect() as open_before:
        open_before.sendall(b"asked")
        assert open_before.recv(100) == b"asked"
        wires.begin(Trouble(is_refused=True), [(1, STORE)])
        with pytest.raises(ConnectionResetError):
            open_before.recv(100)
    with echo.connect() as connection:
        assert connection.recv(100) == b""
    wires.end([(1, STORE)], reset=False)
    with echo.connect() as connection:
        connection.sendall(b"asked")
        assert connection.recv(100) == b"asked"


def test_busy_store_answers_503_and_reads_the_request(wires: Wires, echo: Echo) -> None:
    wires.begin(Trouble(busy_share=1.0), [(1, STORE)])
    with echo.connect() as connection:
        connection.sendall(b"PUT /key HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody")
        answer = b""
        while data := connection.recv(1000):
            answer += data
    assert answer.startswith(b"HTTP/1.1 503")
    assert answer.endswith(b"</Error>")


def test_owner_of_a_connection_is_told_from_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as near:
        port = near.getsockname()[1]
        assert owner_of(port, {3: os.getpid()}) == 3
        assert owner_of(port, {3: os.getppid()}) == -1
