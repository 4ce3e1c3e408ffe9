"""Who lives, who is fenced, and who recovers whose log."""

import pytest

from automq.controller.brokers import (
    allocate_producer_ids,
    check_alive,
    fence_broker,
    register_broker,
    unregister_broker,
    wal_recovered,
)
from automq.controller.damage import Damage, quarantine_wal
from automq.controller.model import Registration, WalToRecover
from automq.ids import BrokerEpoch, NodeId, Offset, StreamEpoch, StreamId
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.records import ConfigChanged, Endpoint, MetadataRecord, WalTrimmed
from automq.metadata.replay import replay_all
from automq.metadata.snapshot_records import to_records
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import Decision
from automq.s3stream.model import BrokerFenced, FencedBy, Unplaced
from automq.steps import at_once
from tests.support.metadata_worlds import check

ONE, TWO = NodeId(1), NodeId(2)


def registered(image: MetadataImage, node: NodeId) -> tuple[MetadataImage, Registration]:
    decision = register_broker(image, node, rack="r", endpoints=(Endpoint("P", "h", 1),))
    after = replay_all(image, decision.records)
    check(after)
    return after, decision.response


def fenced(image: MetadataImage, node: NodeId, by: NodeId) -> tuple[MetadataImage, list[WalToRecover]]:
    dead, recoverer = image.broker(node), image.broker(by)
    assert dead is not None
    assert recoverer is not None
    decision = fence_broker(image, node, dead.epoch, recoverer=(by, recoverer.epoch))
    after = replay_all(image, decision.records)
    check(after)
    return after, list(decision.response)


def test_epochs_are_counted_over_all_nodes_and_never_given_twice() -> None:
    image, first = registered(EMPTY, ONE)
    image, second = registered(image, TWO)
    image, third = registered(image, ONE)
    assert [first.epoch, second.epoch, third.epoch] == [1, 2, 3]
    broker = image.broker(ONE)
    assert broker is not None
    assert (broker.rack, broker.fenced, broker.endpoints) == ("r", False, (Endpoint("P", "h", 1),))


def test_a_new_incarnation_fences_the_former_and_recovers_its_log() -> None:
    image, _ = registered(EMPTY, ONE)
    image = replay_all(image, [WalTrimmed(node=ONE, epoch=BrokerEpoch(1), trim_to=7)])
    image, second = registered(image, ONE)

    assert second.wals == [WalToRecover(node=ONE, epoch=BrokerEpoch(1), trim_to=7)]
    assert image.wals[ONE, BrokerEpoch(1)].recoverer == (ONE, 2)
    with pytest.raises(BrokerFenced):
        check_alive(image, ONE, BrokerEpoch(1))
    check_alive(image, ONE, BrokerEpoch(2))


def test_logs_that_nobody_finished_go_on_to_the_next_incarnation_oldest_first() -> None:
    image, _ = registered(EMPTY, ONE)
    image, _ = registered(image, ONE)
    image, third = registered(image, ONE)
    assert [(wal.epoch, image.wals[wal.node, wal.epoch].recoverer) for wal in third.wals] == [(1, (1, 3)), (2, (1, 3))]


def test_a_fenced_broker_leaves_its_log_and_those_it_recovered() -> None:
    image, _ = registered(EMPTY, ONE)
    image, _ = registered(image, ONE)
    image, _ = registered(image, TWO)
    image, wals = fenced(image, ONE, TWO)

    assert [(wal.node, wal.epoch) for wal in wals] == [(1, 1), (1, 2)]
    broker = image.broker(ONE)
    assert broker is not None
    assert broker.fenced


def test_a_log_that_another_broker_recovers_is_left_to_it() -> None:
    image, _ = registered(EMPTY, ONE)
    image, _ = registered(image, TWO)
    image, _ = fenced(image, ONE, TWO)
    _, again = registered(image, ONE)
    assert again.wals == []


def test_only_the_named_recoverer_ends_a_log_and_may_say_so_twice() -> None:
    image, _ = registered(EMPTY, ONE)
    image, _ = registered(image, ONE)
    image, _ = registered(image, TWO)
    with pytest.raises(BrokerFenced):
        wal_recovered(image, ONE, BrokerEpoch(1), recoverer=(TWO, BrokerEpoch(3)))
    with pytest.raises(BrokerFenced):
        wal_recovered(image, ONE, BrokerEpoch(1), recoverer=(ONE, BrokerEpoch(1)))

    decision = wal_recovered(image, ONE, BrokerEpoch(1), recoverer=(ONE, BrokerEpoch(2)))
    image = replay_all(image, decision.records)
    assert (ONE, BrokerEpoch(1)) not in image.wals
    assert wal_recovered(image, ONE, BrokerEpoch(1), recoverer=(ONE, BrokerEpoch(2))).records == ()


def test_b16_what_recovery_could_not_place_is_pinned_for_good() -> None:
    image, _ = registered(EMPTY, ONE)
    image, _ = registered(image, ONE)
    unplaced = Unplaced(
        stream=StreamId(5),
        epoch=StreamEpoch(1),
        start=Offset(20),
        end=Offset(30),
        expected=Offset(10),
        first_slot=3,
        end_slot=5,
    )
    recoverer = (ONE, BrokerEpoch(2))
    steps = quarantine_wal(
        image,
        ONE,
        BrokerEpoch(1),
        recoverer=recoverer,
        damage=Damage(key="k", reason="r"),
        unplaced=[unplaced],
        now_ms=1,
    )
    image = replay_all(image, at_once(steps).records)

    (pinned,) = image.pinned[ONE, BrokerEpoch(1)]
    assert (pinned.stream, pinned.start, pinned.end, pinned.first_slot, pinned.end_slot) == (5, 20, 30, 3, 5)
    assert replay_all(EMPTY, to_records(image)).pinned == image.pinned
    image, _ = registered(image, ONE)
    assert (ONE, BrokerEpoch(1)) in image.pinned


def test_fencing_an_old_incarnation_or_by_a_dead_one_is_refused() -> None:
    image, _ = registered(EMPTY, ONE)
    image, _ = registered(image, TWO)
    with pytest.raises(ApiError) as caught:
        fence_broker(image, ONE, BrokerEpoch(9), recoverer=(TWO, BrokerEpoch(2)))
    assert caught.value.code == ErrorCode.STALE_BROKER_EPOCH
    with pytest.raises(ApiError):
        fence_broker(image, ONE, BrokerEpoch(1), recoverer=(ONE, BrokerEpoch(1)))
    with pytest.raises(BrokerFenced):
        fence_broker(image, ONE, BrokerEpoch(1), recoverer=(TWO, BrokerEpoch(1)))


def test_only_who_is_fenced_and_recovered_is_forgotten() -> None:
    image, _ = registered(EMPTY, ONE)
    image, _ = registered(image, TWO)
    with pytest.raises(ApiError):
        unregister_broker(image, ONE)
    image, _ = fenced(image, ONE, TWO)
    image = replay_all(image, wal_recovered(image, ONE, BrokerEpoch(1), recoverer=(TWO, BrokerEpoch(2))).records)
    image = replay_all(image, unregister_broker(image, ONE).records)
    check(image)
    assert image.broker(ONE) is None
    with pytest.raises(ApiError):
        unregister_broker(image, ONE)


def test_producer_ids_are_given_once_and_only_to_the_living() -> None:
    image, _ = registered(EMPTY, ONE)
    blocks = []
    for _ in range(2):
        decision = allocate_producer_ids(image, ONE, BrokerEpoch(1), 1000)
        image = replay_all(image, decision.records)
        blocks.append(decision.response)
    assert [(block.first, block.count) for block in blocks] == [(0, 1000), (1000, 1000)]
    with pytest.raises(BrokerFenced):
        allocate_producer_ids(image, ONE, BrokerEpoch(2), 1000)


def test_an_incarnation_that_asks_again_gets_its_epoch_again_and_a_replaced_one_is_refused() -> None:
    """A registration whose answer was lost comes again, maybe long after its successor's."""

    def ask(image: MetadataImage, drawn: bytes) -> tuple[MetadataImage, Registration]:
        decision = register_broker(image, ONE, rack=None, endpoints=(), incarnation=drawn)
        return replay_all(image, decision.records), decision.response

    image, first = ask(EMPTY, b"a")
    assert ask(image, b"a") == (image, first)
    image, second = ask(image, b"b")
    assert ask(image, b"b") == (image, second), "the logs to recover, too"
    assert [wal.epoch for wal in second.wals] == [first.epoch]
    for restored in (image, replay_all(EMPTY, to_records(image))):
        with pytest.raises(BrokerFenced, match="started anew"):
            ask(restored, b"a")
    image, _ = registered(image, TWO)
    image, _ = fenced(image, ONE, TWO)
    with pytest.raises(BrokerFenced):
        ask(image, b"b")
    _, third = ask(image, b"c")
    assert third.epoch > second.epoch


def test_who_begins_anew_is_registered_only_where_its_node_has_no_other_incarnation() -> None:
    image, first = registered(EMPTY, ONE)
    image, _ = registered(image, TWO)
    image, _ = fenced(image, ONE, TWO)

    def ask(image: MetadataImage, drawn: bytes, after: BrokerEpoch | None) -> Decision[MetadataRecord, Registration]:
        return register_broker(image, ONE, rack=None, endpoints=(), incarnation=drawn, after=after)

    anew = ask(image, b"anew", first.epoch)
    began = replay_all(image, anew.records)
    assert began.broker_map[ONE].epoch == anew.response.epoch > first.epoch
    # Its answer was lost: what it asks again is no news, although its node has another epoch by now.
    again = ask(began, b"anew", first.epoch)
    assert not again.records
    assert again.response.epoch == anew.response.epoch

    # A process was started for the node meanwhile; it may be fenced, or forgotten, too.
    newer = replay_all(image, ask(image, b"newer", None).records)
    silent, _ = fenced(newer, ONE, TWO)
    for other in (newer, silent, EMPTY):
        with pytest.raises(BrokerFenced, match="begin anew after epoch") as refused:
            ask(other, b"anew", first.epoch)
        assert refused.value.by is FencedBy.REGISTRATION


def test_a_forgotten_node_leaves_no_configuration() -> None:
    image, _ = registered(EMPTY, ONE)
    image, _ = registered(image, TWO)
    overridden = ConfigChanged(resource_type=4, resource_name="1", changes=(("automq.broker.draining", "true"),))
    image = replay_all(image, [overridden])
    image, _ = fenced(image, ONE, TWO)
    image = replay_all(image, wal_recovered(image, ONE, BrokerEpoch(1), recoverer=(TWO, BrokerEpoch(2))).records)
    image = replay_all(image, unregister_broker(image, ONE).records)
    assert image.broker(ONE) is None
    assert not image.configs
    image, _ = registered(image, ONE)
    assert not image.broker_map[ONE].draining
