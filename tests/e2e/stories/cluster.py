"""Several brokers are one cluster: it comes to be, grows, shrinks and heals, with every record at the end."""

from collections import Counter

from confluent_kafka.admin import AdminClient

from tests.e2e import clients
from tests.e2e.environment import wait_for
from tests.e2e.story import Figure
from tests.e2e.world import World


def leaders(bootstrap: str, topic: str) -> Counter[int]:
    """Partitions by the broker that leads them; -1 for none."""
    partitions = AdminClient({"bootstrap.servers": bootstrap}).list_topics(topic, timeout=10).topics[topic].partitions
    return Counter(partition.leader for partition in partitions.values())


def three_brokers_are_one_cluster(world: World) -> Figure:
    world.apply("three", spec={"replicas": 3}, listeners=True)
    seconds = world.wait_ready("three", 120)
    assert world.status("three")["ready"] == "3/3"
    inside = world.status("three")["bootstrap"]
    clients.from_a_pod(world.namespace, world.environment.client_image, inside, "from-a-pod", 200)
    bootstrap = world.outside("three")
    clients.create_topic(bootstrap, "spread", 12)
    wait_for("every broker leads its share", lambda: set(leaders(bootstrap, "spread")) == {0, 1, 2}, 30)
    with clients.SteadyProducer(bootstrap, "spread") as producer:
        wait_for("records are acknowledged", lambda: len(producer.acked) > 500, 30)
    clients.check_exactly_once(bootstrap, "spread", producer)
    return Figure(seconds, 30, "apply to three Ready")
