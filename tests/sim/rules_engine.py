"""The rules of the WAL, of answers and of fenced processes, and how each is taken out."""

import asyncio
import dataclasses
from typing import Any

from tests.sim.rules import Rule, does_nothing, does_nothing_async, returns, without

QUEUE = "automq.s3stream.append_queue:AppendQueue."
WAL = "automq.s3stream.wal.object_wal:"
STORAGE = "automq.s3stream.storage:Storage."
UPLOADER = "automq.s3stream.upload.uploader:Uploader."
RECOVERER = "automq.s3stream.upload.recoverer:"
DEAD_LOG = "automq.s3stream.upload.dead_log:"
CLIENT = "automq.controller.client:ControllerClient."
DRIVER = "automq.replicated.driver:Driver."


def _any_written(original: Any) -> Any:
    return lambda self: next((slot for slot in self._slots if slot.written), None)


def _new_nonce_each_try(original: Any) -> Any:
    """Every try is sealed anew, as a retry of the client library above the slot would."""
    from crc32c import crc32c

    from automq.s3stream.ports import ObjectExists, StoreError
    from automq.s3stream.store.conditional import KeyTaken

    async def create(store: Any, key: str, body: Any, *, entropy: Any, **_options: Any) -> None:
        while True:
            slot = bytearray(b"".join(body))
            length = int.from_bytes(slot[72:76], "big")
            slot[52:68] = entropy.token(16)
            slot[76:80] = crc32c(slot[80 : 80 + length], crc32c(slot[:76])).to_bytes(4, "big")
            try:
                await store.create(key, [bytes(slot)])
            except ObjectExists:
                raise KeyTaken(key, None) from None
            except StoreError:
                await asyncio.sleep(0.2)
            else:
                return

    return create


def _no_fence_record(original: Any) -> Any:
    """The new incarnation is registered; its predecessor's log is read without a record that ends it."""
    from automq.metadata.records import BrokerFenced
    from automq.replicated.machine import Decision

    def register(*args: Any, **options: Any) -> Any:
        decision = original(*args, **options)
        kept = [record for record in decision.records if not isinstance(record, BrokerFenced)]
        return Decision(kept, decision.response)

    return register


def _highest_missing(original: Any) -> Any:
    return lambda present, first: max([position for position in present if position >= first], default=first - 1) + 1


def _every_race_is_won(original: Any) -> Any:
    async def win(self: Any, sequence: int) -> bool:
        await original(self, sequence)
        return True

    return win


def _sweeps_fences(original: Any) -> Any:
    async def sweep(self: Any, fence: int) -> None:
        await original(self, fence)
        await self._store.delete([self._log.slot_id(fence).key])

    return sweep


def _capture_at_the_tail(original: Any) -> Any:
    """Checkpoints are taken when the object is built, not when its end was fixed."""

    async def put(self: Any, block: Any, *args: Any) -> Any:
        path = self._events.committed.__self__
        for run in block.runs:
            stream = path._append.open_streams.get(run.stream)
            if stream is not None and stream.checkpoint_source is not None:
                piece = stream.checkpoint_source(True)
                if piece is not None:
                    block.checkpoints[(run.stream, run.epoch)] = piece
        return await original(self, block, *args)

    return put


def _commit_each_object(original: Any) -> Any:
    """One commit an object, and the first of them moves T."""

    async def commit(self: Any, request: Any) -> Any:
        results = [
            await original(self, dataclasses.replace(request, objects=[committed])) for committed in request.objects
        ]
        return results[-1]

    return commit


def _publish_at_once(original: Any) -> Any:
    def follow(self: Any, appended: Any) -> None:
        publish = vars(self).setdefault("at_once", self._publish)
        self._publish = None
        captured = self._capture() if self._capture is not None else None
        if publish is not None:
            publish(captured)
        self._last = appended
        appended.add_done_callback(lambda done: self._on_appended(done, captured))

    return follow


def _up_to_the_end(original: Any) -> Any:
    return lambda self, end: self.next_offset


def _stays_up(original: Any) -> Any:
    return does_nothing_async(original) if original.__name__ == "close" else does_nothing(original)


ENGINE_RULES: tuple[Rule, ...] = (
    Rule(
        "acknowledged in order",
        "In order: acknowledgement is strictly in slot order, late successes included.",
        (QUEUE + "_next_in_order",),
        _any_written,
        "acknowledged_behind_a_hole",
    ),
    Rule(
        "frozen bytes",
        "In order: body and nonce of a slot are frozen until its outcome is known.",
        (WAL + "create_once",),
        _new_nonce_each_try,
        "lost_answer_of_a_slot",
    ),
    Rule(
        "taken means fenced",
        "In order: a slot found taken by another nonce means fenced: no new PUT and no acknowledgement any more.",
        (STORAGE + "_fence_ourselves",),
        does_nothing,
        "finds_its_slot_taken",
    ),
    Rule(
        "fence record first",
        "Fence first, then read: recovery begins with the record that fences the dead (broker, epoch).",
        ("automq.controller.brokers:register_broker",),
        _no_fence_record,
        "nobody_writes",
    ),
    Rule(
        "recovery starts at T",
        "Fence first, then read; trim is a record: recovery starts at T and never looks below it.",
        (RECOVERER + "Recoverer.run",),
        without(("self._read(self._committed_to)", "self._read(0)")),
        "restarted",
    ),
    Rule(
        "lowest missing slot",
        "Fence first, then read: the slot to win is the lowest missing one at or above T.",
        (DEAD_LOG + "lowest_missing",),
        _highest_missing,
        "recovered_twice",
    ),
    Rule(
        "a lost race is one slot more",
        "Fence first, then read: a race lost at the fence is one slot more to read.",
        (DEAD_LOG + "DeadLog._win",),
        _every_race_is_won,
        "slot_lands_before_the_fence",
    ),
    Rule(
        "a fence ends the run",
        "Fence first, then read: slots beyond the fence are never part of the run.",
        (DEAD_LOG + "ends_run",),
        returns(False),
        "recovered_twice",
    ),
    Rule(
        "trim is a record before it is a delete",
        "Trim is a record before it is a delete: the owner deletes only below a committed T.",
        (WAL + "ObjectWal.trim",),
        without(("trim(trimmed_to)", "trim(self.next_sequence)")),
        "trimmed_behind_an_upload",
    ),
    Rule(
        "commits in order",
        "Trim is a record before it is a delete: a commit's T never passes a block that is not committed.",
        (UPLOADER + "_wait_turn",),
        does_nothing_async,
        "second_upload_overtakes",
    ),
    Rule(
        "T moves with the whole block",
        "Commit check: all objects of a block are one commit, T moved once, all or none; not with the first object.",
        (UPLOADER + "_commit",),
        _commit_each_object,
        "killed_in_an_upload_5",
    ),
    Rule(
        "WAL fences stay",
        "Fences stay: a fence slot of a WAL is never deleted.",
        (RECOVERER + "Recoverer.sweep",),
        _sweeps_fences,
        "wakes_up_after_its_recovery",
    ),
    Rule(
        "publish what is durable",
        "Speculation stays inside: publishing and reads see durable state only.",
        (DRIVER + "_follow",),
        _publish_at_once,
        "seen_and_lost",
    ),
    Rule(
        "a reply waits",
        "Speculation stays inside: a reply waits for its own records and for everything its command could have seen.",
        (DRIVER + "_answer_when_durable",),
        does_nothing_async,
        "told_of_what_is_lost",
    ),
    Rule(
        "an error waits",
        "An error is an answer too: a refusal waits for the state that it was decided on.",
        (DRIVER + "_answer",),
        without(("await self._answer_when_durable(last)\n        raise", "raise")),
        "refused_because_of_a_lost_fact",
    ),
    Rule(
        "a duplicate waits",
        "An error is an answer too: a duplicate is answered with the first offset once that is durable.",
        ("automq.partition.partition:Partition.duplicate_position",),
        returns(-1),
        "duplicate_of_what_is_lost",
    ),
    Rule(
        "a refused sequence waits",
        "An error is an answer too: a refused sequence waits for the records that it was compared with.",
        ("automq.handlers.produce:awaited_position",),
        returns(-1),
        "refused_because_of_what_is_lost",
    ),
    Rule(
        "fetch below the confirmed offset",
        "An error is an answer too: fetch stays below the confirmed offset.",
        ("automq.s3stream.stream:Stream._readable_end",),
        _up_to_the_end,
        "read_before_it_is_durable",
    ),
    Rule(
        "checkpoint at the uploaded end",
        "An error is an answer too: a checkpoint is captured at exactly the uploaded end offset, never at the tail.",
        (UPLOADER + "_put",),
        _capture_at_the_tail,
        "checkpoint_knows_what_is_lost",
    ),
    Rule(
        "the fenced fall silent",
        "A fenced process stops serving reads, group answers and heartbeats as well.",
        (
            "automq.server.components:Components.halt",
            "automq.server.components:Components.close",
            "automq.server.broker:Broker._stop_listening",
        ),
        _stays_up,
        "asked_after_its_fence",
    ),
    Rule(
        "answers need contact",
        "Liveness: nothing is answered from state whose last proof began more than a session ago.",
        ("automq.server.network.connection:Connection._send_ready",),
        without(("server.boottime() >= server.contact.fresh_until", "False")),
        "asked_while_it_was_paused",
    ),
    Rule(
        "an idle broker polls",
        "A fenced process: an idle broker learns of its fence by polling the metadata tail.",
        ("automq.metadata.log:MetadataLog.poll_fence",),
        does_nothing_async,
        "nobody_writes",
    ),
    Rule(
        "read your writes",
        "A mutating call returns once the image here includes what it has changed: reads after it see at least that.",
        (CLIENT + "_reached",),
        does_nothing_async,
        "evicted_with_a_late_image",
    ),
    Rule(
        "recovery goes on from its own commits",
        "Failover: recovery tracks the ends of streams from its own commit results, however old the image is.",
        (CLIENT + "_reached", RECOVERER + "Recoverer._go_on_behind"),
        lambda original: (does_nothing_async if original.__name__ == "_reached" else does_nothing)(original),
        "recovered_with_a_late_image",
    ),
    Rule(
        "carried out once",
        "Every request of the link is numbered: the same number of a session is the same request, carried out once.",
        ("automq.controller.link_server:LinkServer._is_known",),
        returns(False),
        "link_cut_before_the_answer",
    ),
)
