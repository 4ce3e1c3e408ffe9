"""What an incarnation still has, by the metadata."""

from automq.controller.failover import NOTHING_KNOWN, fence_dead
from automq.controller.model import Reassignment
from automq.controller.moves import reassign, stop_broker
from automq.controller.possessions import expected_streams, has_nothing, is_leaving, possessions
from automq.ids import NodeId
from automq.metadata.records import ConfigChanged, WalDamaged, WalRecovered
from automq.steps import at_once
from tests.unit.broker.controller.test_failover import cluster, grown, incarnation


def test_it_counts_what_is_led_what_arrives_and_what_is_recovered() -> None:
    image = cluster(1, 2, 3, partitions=6)
    first, second, third = (incarnation(image, node) for node in (1, 2, 3))
    assert str(possessions(image, first)) == "it leads 2 partitions"
    assert not has_nothing(image, first)

    away = next(part for _, part in image.owned_partitions(NodeId(2)))
    wish = Reassignment(topic="t", index=away.index, replicas=[NodeId(3)])
    image = grown(image, at_once(reassign(image, [wish])).records)
    assert possessions(image, third).arriving == 1
    assert expected_streams(image, third) == {away.stream}

    # The fence ends the move; the log has a recoverer, who is to lead nothing of it so far.
    image = grown(image, fence_dead(image, [second], NOTHING_KNOWN))
    recoverer = image.wals[second].recoverer
    assert recoverer is not None
    held = possessions(image, recoverer)
    assert (held.led, held.arriving, held.logs) == (2, 0, 1)
    assert str(held) == "it leads 2 partitions; it recovers 1 write-ahead logs"
    assert expected_streams(image, recoverer) == {part.stream for _, part in image.owned_partitions(NodeId(2))}

    other = ({first, third} - {recoverer}).pop()
    assert possessions(image, other).logs == 0
    image = grown(image, [WalRecovered(node=second[0], epoch=second[1])])
    assert possessions(image, recoverer).logs == 0


def test_one_who_leads_nothing_has_nothing_and_its_own_log_does_not_count() -> None:
    image = cluster(1, 2, partitions=0)
    key = incarnation(image, 1)
    assert has_nothing(image, key)
    assert str(possessions(image, key)) == "nothing"


def test_a_pinned_log_waits_for_a_person() -> None:
    image = cluster(1, 2, partitions=2)
    dead = incarnation(image, 2)
    image = grown(image, fence_dead(image, [dead], NOTHING_KNOWN))
    image = grown(image, [WalDamaged(node=dead[0], epoch=dead[1], key="k", reason="r", at_ms=0, unplaced=())])
    key = incarnation(image, 1)
    assert possessions(image, key).logs == 0
    assert expected_streams(image, key) == set()


def test_leaving_is_what_the_image_shows_of_this_incarnation() -> None:
    image = cluster(1, 2)
    key = incarnation(image, 1)
    assert not is_leaving(image, key)
    assert is_leaving(grown(image, stop_broker(image, *key).records), key)
    drained = grown(image, [ConfigChanged(4, "1", (("automq.broker.draining", "true"),))])
    assert is_leaving(drained, key)
    assert not is_leaving(grown(drained, fence_dead(drained, [key], NOTHING_KNOWN)), key)
