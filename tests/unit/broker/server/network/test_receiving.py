"""Memory for what comes in: never more than the account, and everybody who goes on sending comes to an end."""

import random
import struct
from collections.abc import Callable

import pytest

from automq.protocol.framing import FrameReader, ReceiveBuffers
from automq.runtime.budget import ByteBudget
from automq.server.network.receiving import (
    ALLOWANCE_BYTES,
    KIB,
    MIB,
    PARTS,
    PATIENCE_S,
    PATIENCE_UNDER_PRESSURE_S,
    STEP_BYTES,
    Hold,
    Receiving,
)


class World:
    """An account, and the turns of an event loop."""

    def __init__(self, limit: int) -> None:
        self.account = ByteBudget(limit)
        self.turns: list[Callable[[], None]] = []
        self.receiving = Receiving(self.account, call_soon=self.turns.append)
        self.buffers = ReceiveBuffers(
            spare_bytes_max=self.receiving.spare_bytes_max, on_spare=self.receiving.change_spares
        )
        self.peers: list[Peer] = []

    def peer(self) -> "Peer":
        self.peers.append(Peer(self))
        return self.peers[-1]

    def turn(self) -> None:
        turns = self.turns[:]
        self.turns.clear()
        for turn in turns:
            turn()


class Peer:
    """One connection: what its client has sent goes through a reader; whole frames are taken unless it is blocked."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.reader = FrameReader(world.buffers, frame_bytes_max=world.receiving.frame_bytes_max)
        self.hold = Hold(world.receiving, self.proceed)
        self.pending = bytearray()
        self.may_read = True
        self.is_blocked = False
        self.frames: list[int] = []

    def send(self, size: int, *, part: int | None = None) -> None:
        """A frame of `size` bytes, or the first `part` of it."""
        self.pending += (struct.pack(">i", size) + bytes(size))[: part if part is not None else size + 4]

    def read(self, most: int = 1 << 30) -> bool:
        """One read, if there is anything and it may be."""
        if not self.pending or not self.may_read:
            return False
        buffer = self.reader.get_buffer(self.world.receiving.read_bytes)
        count = min(len(buffer), len(self.pending), most)
        buffer[:count] = self.pending[:count]
        del self.pending[:count]
        self.reader.buffer_updated(count)
        self.proceed()
        return True

    def read_all(self) -> None:
        while self.read():
            pass

    def proceed(self) -> None:
        is_all = True
        while (frame := self.reader.next_frame()) is not None:
            if self.is_blocked:
                self.reader.put_back(len(frame))
                self.reader.retain()
                is_all = False
                break
            self.frames.append(len(frame))
        self.may_read = self.hold.update(self.reader) and is_all

    def close(self) -> None:
        self.reader.close()
        self.hold.clear()
        self.pending.clear()

    def is_stalled(self, now: float) -> bool:
        return self.hold.is_stalled(self.reader, now, frames=len(self.frames))


@pytest.mark.parametrize("seed", range(10))
def test_everybody_comes_to_an_end_within_the_account(seed: int) -> None:
    source = random.Random(seed)
    world = World(source.choice((16 * MIB, 20 * MIB, 60 * MIB)))
    most = world.receiving.frame_bytes_max
    sizes = (10, 2000, 5000, 100 * KIB, 200 * KIB, 1 * MIB, 2 * MIB, 3 * MIB, most // 2, most)
    sent = {}
    for _ in range(source.choice((3, 20, 40))):
        peer = world.peer()
        sent[peer] = [source.choice(sizes) for _ in range(source.randint(1, 3))]
        for size in sent[peer]:
            peer.send(size)
    left = list(world.peers)
    idle_turns = 0
    while left:
        peer = source.choice(left)
        peer.is_blocked = source.random() < 0.2
        if source.random() < 0.01:
            peer.close()
            left.remove(peer)
            continue
        count = source.choice((1, 5, 1000, 1 << 20))
        idle_turns = 0 if peer.read(count) else idle_turns + 1
        if not peer.is_blocked and not peer.may_read:
            peer.proceed()
        world.turn()
        assert world.account.used <= world.account.limit
        if peer.frames == sent[peer]:
            left.remove(peer)
            idle_turns = 0
        assert idle_turns < 100 * len(world.peers), "nobody comes any further"

    for peer in world.peers:
        peer.close()
    assert world.account.used == world.buffers.spare_bytes


def test_a7_half_sent_frames_take_no_more_than_the_account() -> None:
    world = World(20 * MIB)
    peers = [world.peer() for _ in range(60)]
    for peer in peers:
        peer.send(10 * MIB, part=6 * MIB)
    for _ in range(3):
        for peer in peers:
            peer.read_all()
        world.turn()

    assert world.account.used <= world.account.limit
    assert sum(peer.reader.unread_bytes for peer in peers) <= world.account.limit
    assert sum(peer.may_read for peer in peers) == 1, "the oldest could come to its end"
    other = world.peer()
    for size in (100, 20 * KIB, 100 * KIB, 1 * MIB):
        other.send(size)
        other.read_all()
    assert other.frames == [100, 20 * KIB, 100 * KIB, 1 * MIB], "shorter requests have memory of their own"


def test_announced_frame_reserves_nothing() -> None:
    world = World(200 * MIB)
    first = world.peer()
    first.send(100 * MIB, part=10)
    first.read_all()

    assert world.account.used <= STEP_BYTES + 10


def test_oldest_frame_ends_whatever_the_others_hold() -> None:
    world = World(40 * MIB)
    most = world.receiving.frame_bytes_max
    first, *others = [world.peer() for _ in range(8)]
    first.send(most)
    first.read(5)
    for other in others:
        other.send(most)
        other.read_all()
    first.read_all()

    assert first.frames == [most]
    for _ in range(100):
        world.turn()
        for other in others:
            other.read_all()
    assert [other.frames for other in others] == [[most]] * len(others)


def test_frame_larger_than_the_account_carries_is_refused() -> None:
    world = World(16 * MIB)
    peer = world.peer()
    peer.send(world.receiving.frame_bytes_max + 1, part=10)

    with pytest.raises(Exception, match="are accepted"):
        peer.read_all()


def test_those_that_wait_are_served_in_order() -> None:
    world = World(16 * MIB)
    peers = [world.peer() for _ in range(6)]
    for peer in peers:
        peer.send(2 * MIB - 100, part=MIB)
        peer.read_all()
    assert [peer.may_read for peer in peers] == [True, False, False, False, False, False]

    for number in range(5):
        peers[number].close()
        world.turn()
        assert [peer.may_read for peer in peers[number + 1 :]] == [True] + [False] * (4 - number)


def test_reads_shrink_as_the_heads_fill_and_no_head_is_lost() -> None:
    world = World(16 * MIB)
    peers = [world.peer() for _ in range(500)]
    for peer in peers:
        peer.is_blocked = True
        for _ in range(10):
            peer.send(60 * KIB)
        peer.read_all()

    assert world.account.used <= world.account.limit
    assert world.receiving.read_bytes == ALLOWANCE_BYTES
    assert sum(peer.reader.unread_bytes for peer in peers) < 16 * MIB + 500 * ALLOWANCE_BYTES
    for peer in peers:
        peer.is_blocked = False
    for _ in range(1000):
        for peer in peers:
            peer.proceed()
            peer.read_all()
        world.turn()
        if not any(peer.pending for peer in peers):
            break
    assert all(len(peer.frames) == 10 for peer in peers)
    assert world.account.used == world.buffers.spare_bytes


def test_frame_without_progress_is_stalled_after_patience() -> None:
    world = World(200 * MIB)
    peer = world.peer()
    peer.send(100 * MIB, part=50 * MIB)
    peer.read_all()

    assert not peer.is_stalled(0.0)
    assert not peer.is_stalled(PATIENCE_S - 1)
    assert peer.is_stalled(PATIENCE_S)


def test_byte_by_byte_is_no_progress_of_a_large_frame() -> None:
    world = World(200 * MIB)
    peer = world.peer()
    peer.send(6000, part=10)
    peer.read_all()
    stalled_at = None
    for second in range(100):
        peer.send(0, part=0)
        peer.pending += b"x"
        peer.read_all()
        if peer.is_stalled(float(second)):
            stalled_at = second
            break

    assert stalled_at == PATIENCE_S


def test_a_sixtieth_in_time_is_progress() -> None:
    world = World(200 * MIB)
    peer = world.peer()
    size = 3 * MIB
    peer.send(size)
    now = 0.0
    for _ in range(PARTS + 5):
        peer.read(size // PARTS + 10)
        assert not peer.is_stalled(now)
        now += PATIENCE_S - 1
    assert peer.frames == [size]


def test_patience_is_short_while_others_wait_for_the_memory() -> None:
    world = World(16 * MIB)
    first, second = world.peer(), world.peer()
    for peer in (first, second):
        peer.send(world.receiving.frame_bytes_max, part=world.receiving.frame_bytes_max - 100)
        peer.read_all()

    assert not first.is_stalled(0.0)
    assert not second.is_stalled(0.0)
    assert first.is_stalled(PATIENCE_UNDER_PRESSURE_S)
    assert not second.is_stalled(PATIENCE_UNDER_PRESSURE_S), "it is not read: that is not the client's fault"


def test_idle_connection_and_steady_traffic_are_never_stalled() -> None:
    world = World(200 * MIB)
    idle, steady = world.peer(), world.peer()
    frame = struct.pack(">i", 5000) + bytes(5000)
    steady.pending += frame[:54]
    for second in range(100):
        # Always the same part of a frame is there when it is looked.
        steady.pending += frame[54:] + frame[:54]
        steady.read_all()
        assert not idle.is_stalled(float(second))
        assert not steady.is_stalled(float(second))
    assert len(steady.frames) == 100
