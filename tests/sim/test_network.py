"""The simulated network: order, loss, back-pressure, and what processes that die or stop do to connections."""

import asyncio
import random

import pytest

from tests.support.network import SimNetwork
from tests.support.sim_loop import Process, SimLoop, run_world


class Recorder(asyncio.Protocol):
    """Keeps what happens to it."""

    def __init__(self):
        self.events = []
        self.data = b""
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def data_received(self, data):
        self.data += data

    def eof_received(self):
        self.events.append("eof")
        return False

    def connection_lost(self, error):
        self.events.append("lost" if error is None else "reset")

    def pause_writing(self):
        self.events.append("full")

    def resume_writing(self):
        self.events.append("room")


class Small(asyncio.BufferedProtocol):
    """Takes three bytes at a time."""

    def __init__(self):
        self.data = b""
        self._buffer = bytearray(3)

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        return self._buffer

    def buffer_updated(self, size):
        self.data += self._buffer[:size]

    def connection_lost(self, error):
        pass


def run(main, seed=1):
    loop = SimLoop(seed)
    try:
        return run_world(loop, main(loop, SimNetwork(loop, random.Random(seed))))
    finally:
        loop.end()


async def pair(loop, network, server_class=Recorder):
    process = Process(loop, "server")
    listener = network.bind(process, "host", 9092)
    made = []

    def factory():
        made.append(server_class())
        return made[-1]

    listener.factory = factory
    client = Recorder()
    await network.connect("host", 9092, client)
    await asyncio.sleep(0.1)
    return process, client, made[0]


@pytest.mark.parametrize("seed", range(5))
def test_bytes_arrive_whole_and_in_order(seed):
    async def main(loop, network):
        _, client, server = await pair(loop, network)
        for number in range(200):
            client.transport.write(b"%d," % number)
            if number % 7 == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        return server.data

    assert run(main, seed) == b"".join(b"%d," % number for number in range(200))


def test_buffered_protocol_gets_everything():
    async def main(loop, network):
        _, client, server = await pair(loop, network, Small)
        client.transport.writelines([b"hello ", b"world"])
        await asyncio.sleep(1)
        return server.data

    assert run(main) == b"hello world"


def test_bytes_are_taken_when_they_leave_not_when_they_are_written():
    async def main(loop, network):
        _, client, server = await pair(loop, network)
        buffer = bytearray(b"good")
        client.transport.write(buffer)
        assert client.transport.get_write_buffer_size() == 4
        buffer[:] = b"evil"
        await asyncio.sleep(1)
        assert client.transport.get_write_buffer_size() == 0
        return server.data

    assert run(main) == b"evil"


def test_nobody_listens():
    async def main(loop, network):
        process = Process(loop, "server")
        network.bind(process, "host", 9092)
        with pytest.raises(OSError, match="taken"):
            network.bind(process, "host", 9092)
        with pytest.raises(ConnectionRefusedError):
            await network.connect("host", 9092, Recorder())
        process.kill()
        await asyncio.sleep(0.1)
        network.bind(Process(loop, "next"), "host", 9092)

    run(main)


def test_killed_process_resets_its_peers_and_hears_nothing():
    async def main(loop, network):
        process, client, server = await pair(loop, network)
        process.kill()
        await asyncio.sleep(1)
        client.transport.write(b"x")
        return client.events, server.events

    assert run(main) == (["made", "reset"], ["made"])


def test_paused_process_stays_connected_and_reads_later():
    async def main(loop, network):
        process, client, server = await pair(loop, network)
        process.pause()
        client.transport.write(b"x")
        late = Recorder()
        await network.connect("host", 9092, late)
        await asyncio.sleep(10)
        assert (client.events, late.events, server.data) == (["made"], ["made"], b"")
        process.resume()
        await asyncio.sleep(1)
        return server.data

    assert run(main) == b"x"


def test_close_delivers_what_was_written_before():
    async def main(loop, network):
        _, client, server = await pair(loop, network)
        client.transport.write(b"last words")
        client.transport.close()
        await asyncio.sleep(1)
        return client.events, server.events, server.data

    assert run(main) == (["made", "lost"], ["made", "eof", "lost"], b"last words")


def test_abort_loses_what_has_not_left():
    async def main(loop, network):
        _, client, server = await pair(loop, network)
        client.transport.write(b"last words")
        client.transport.abort()
        await asyncio.sleep(1)
        return client.events, server.events, server.data

    assert run(main) == (["made", "lost"], ["made", "reset"], b"")


def test_reset_hits_both_ends():
    async def main(loop, network):
        process, client, server = await pair(loop, network)
        assert network.reset(process) == 1
        await asyncio.sleep(1)
        return client.events, server.events, network.reset()

    assert run(main) == (["made", "reset"], ["made", "reset"], 0)


def test_reader_that_stops_fills_the_writer_up():
    async def main(loop, network):
        _, client, server = await pair(loop, network)
        server.transport.pause_reading()
        for _ in range(40):
            client.transport.write(bytes(16384))
            await asyncio.sleep(0.01)
        assert client.events == ["made", "full"]
        assert server.data == b""
        server.transport.resume_reading()
        await asyncio.sleep(1)
        return client.events, len(server.data)

    assert run(main) == (["made", "full", "room"], 40 * 16384)


def test_writes_of_servers_are_observed():
    async def main(loop, network):
        seen = []
        network.on_write = seen.append
        process, client, server = await pair(loop, network)
        client.transport.write(b"question")
        assert seen == []
        server.transport.write(b"answer")
        return seen == [process]

    assert run(main)
