"""One node id a cluster, until several brokers can form one."""

import pytest

from automq.ids import BrokerEpoch, ControllerEpoch, NodeId
from automq.metadata.company import check_alone, other_brokers
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.lease import LeaseContent, decode_lease
from automq.metadata.records import BrokerFenced, BrokerRegistered, MetadataRecord
from automq.metadata.refusal import ClusterInUse
from automq.metadata.replay import MetadataMachine

ONE, TWO = NodeId(1), NodeId(2)


def image_of(*records: MetadataRecord) -> MetadataImage:
    machine = MetadataMachine(EMPTY)
    for record in records:
        machine.replay(record)
    return machine.image


def registered(node: NodeId, epoch: int) -> BrokerRegistered:
    return BrokerRegistered(node=node, epoch=BrokerEpoch(epoch), rack=None, endpoints=())


BOTH = image_of(registered(ONE, 1), registered(TWO, 2))


def held_by(node: NodeId) -> LeaseContent:
    return LeaseContent(node, ControllerEpoch(3))


@pytest.mark.parametrize("lease", [None, held_by(ONE), held_by(TWO)])
def test_who_is_alone_may_start(lease: LeaseContent | None) -> None:
    check_alone(image_of(registered(ONE, 1)), ONE, lease)
    check_alone(EMPTY, ONE, lease)


def test_fenced_node_is_no_company() -> None:
    image = image_of(registered(TWO, 1), BrokerFenced(TWO, BrokerEpoch(1), ONE, BrokerEpoch(2)), registered(ONE, 2))
    assert other_brokers(image, ONE) == []
    check_alone(image, ONE, held_by(TWO))


@pytest.mark.parametrize(("lease", "named"), [(None, 1), (held_by(ONE), 1), (held_by(NodeId(9)), 1)])
def test_newcomer_is_refused_and_told_who_has_the_cluster(lease: LeaseContent | None, named: int) -> None:
    with pytest.raises(ClusterInUse, match=f"node id {named} is the broker"):
        check_alone(image_of(registered(ONE, 1)), TWO, lease)


def test_last_controller_of_two_goes_on_and_the_other_is_refused() -> None:
    check_alone(BOTH, TWO, held_by(TWO))
    with pytest.raises(ClusterInUse, match="node id 2 is the broker"):
        check_alone(BOTH, ONE, held_by(TWO))


@pytest.mark.parametrize("data", [b"", b"?", b"{}", b'{"node": "x", "controllerEpoch": 1}', b"[1]", b"\xff"])
def test_lease_that_cannot_be_read_says_nothing(data: bytes) -> None:
    assert decode_lease(data) is None
