"""The rules about a store that is other than expected, and how each is taken out."""

from typing import Any

from tests.sim.rules import Rule, does_nothing, does_nothing_async, returns, without

CLUSTER = "automq.metadata.cluster:"
CONDITIONAL = "automq.s3stream.store.conditional:"


def _taken(original: Any) -> Any:
    from automq.s3stream.store.conditional import Verdict

    return lambda *args: Verdict.TAKEN


def _any_key_is_ours(original: Any) -> Any:
    """A key is cut into numbers by position, whatever else it is."""

    def select(infos: Any, parse: Any, **options: Any) -> Any:
        for info in infos:
            if parse(info.key) is None:
                int(info.key.rpartition("/")[2])
        return original(infos, parse, **options)

    return select


def _survives_nothing(original: Any) -> Any:
    return lambda step, **options: original(step, **{**options, "survives": ()})


def _nothing_is_pinned(original: Any) -> Any:
    return lambda *args, **options: original(*args, **{**options, "unplaced": ()})


def _overwrites(original: Any) -> Any:
    async def put(store: Any, key: str, body: Any) -> None:
        await store.put(key, body)

    return put


def _nothing_is_compared(original: Any) -> Any:
    return does_nothing_async(original) if original.__name__ == "check_objects" else does_nothing(original)


def _equals_anything(original: Any) -> Any:
    class Anything:
        """A checksum that is never wrong."""

        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            return True

        def __ne__(self, other: object) -> bool:
            return False

    return lambda *args: Anything()


DAMAGE_RULES: tuple[Rule, ...] = (
    Rule(
        "what does not decode is no fence",
        "Nothing is assumed of the store: what does not decode is damage, never another process's fence.",
        (CONDITIONAL + "judge_foreign",),
        _taken,
        "half_a_slot",
    ),
    Rule(
        "a claim is proved",
        "Nothing is assumed of the store: a claimant sees that the store still refuses to create its claim again.",
        ("automq.metadata.claim:_check_refused",),
        does_nothing_async,
        "store_without_conditions",
    ),
    Rule(
        "strangers are passed over",
        "Nothing is assumed of the store: keys are known by one strict pattern a folder; all others are ignored.",
        ("automq.s3stream.store.listing:select_own",),
        _any_key_is_ours,
        "strangers_in_every_folder",
    ),
    Rule(
        "periodic work goes on",
        "Nothing is assumed of the store: no answer of it ends periodic work.",
        ("automq.controller.background:repeat", "automq.metadata.lease:repeat"),
        _survives_nothing,
        "refused_everything_for_a_while",
    ),
    Rule(
        "a hole below a mark is damage",
        "Nothing is concluded from absence: a slot missing below a mark of durability is lost, not the log's end.",
        ("automq.s3stream.upload.dead_log:shows_durable",),
        returns(False),
        "slot_missing_below_others",
    ),
    Rule(
        "what fits nowhere is pinned",
        "Evidence stays: what recovery cannot place is recorded, its slots are pinned, its streams take no append.",
        ("automq.controller.brokers:wal_recovered",),
        _nothing_is_pinned,
        "opening_of_streams_is_lost",
    ),
    Rule(
        "no offset is given twice",
        "Nothing is given up but by name: where lost slots may have held records, streams go on above all of those.",
        ("automq.controller.damage:lost_tails",),
        returns(()),
        "end_of_a_log_given_up",
    ),
    Rule(
        "quarantine",
        "Evidence stays: a stream whose log is damaged takes no append until it is repaired.",
        ("automq.partition.partition:Partition.set_causes",),
        does_nothing,
        "slot_missing_below_others",
    ),
    Rule(
        "objects are created",
        "Nothing is concluded from absence: objects are created if absent; a taken id means that metadata are lost.",
        ("automq.s3stream.upload.uploader:put_object", "automq.s3stream.upload.recoverer:put_object"),
        _overwrites,
        "object_id_taken",
    ),
    Rule(
        "what must exist is looked for",
        "Nothing is concluded from absence: what must exist is looked for, and acknowledging stops when it is lost.",
        ("automq.server.lifecycle.presence:PresenceWatch.check",),
        does_nothing_async,
        "cluster_key_vanishes",
    ),
    Rule(
        "metadata leave traces: folders",
        "Nothing is concluded from absence: a cluster's folder without metadata is damage, not an empty cluster.",
        tuple(CLUSTER + name for name in ("check_layout", "check_tail", "check_objects")),
        _nothing_is_compared,
        "metadata_missing",
    ),
    Rule(
        "metadata leave traces: records",
        "Nothing is concluded from absence: a metadata log shorter than a lease or a claim says has lost its tail.",
        (CLUSTER + "check_tail",),
        does_nothing,
        "tail_of_the_metadata_log_missing",
    ),
    Rule(
        "metadata leave traces: objects",
        "Nothing is concluded from absence: an object that no record prepared shows that the log has lost its tail.",
        (CLUSTER + "check_objects",),
        does_nothing_async,
        "object_that_no_record_prepared",
    ),
    Rule(
        "a place is not believed",
        "Damage is reported where it is: what the metadata say of a place is believed when the block there proves it.",
        ("automq.s3stream.objects.reader:ObjectReader.load_share",),
        without(("entry.stream != stream or ", "")),
        "places_mixed_up",
    ),
    Rule(
        "blocks have checksums",
        "Damage is reported where it is: a block is served only if it is what was written.",
        ("automq.s3stream.objects.block:crc32c",),
        _equals_anything,
        "object_spoiled",
    ),
)
