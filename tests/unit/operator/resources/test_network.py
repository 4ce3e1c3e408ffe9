"""Services of listeners for clients outside."""

from typing import Any

from automq_operator import api
from automq_operator.children import Layout, own_settings
from automq_operator.resources import network, workload
from tests.support.kubernetes_double import a_cluster

INTERNAL: dict[str, Any] = {"name": "internal", "port": 9092}
DNS = "external-dns.alpha.kubernetes.io/hostname"


def _services(ids: range, **listener: Any) -> dict[str, dict[str, Any]]:
    cluster = a_cluster(listeners=[INTERNAL, {"name": "outside", "port": 9094, **listener}])
    return {service["metadata"]["name"]: service for service in network.services(cluster, ids)}


def test_each_broker_has_a_load_balancer_of_its_own_beside_the_one_to_begin_with() -> None:
    found = _services(range(2), type="LoadBalancer", loadBalancerClass="nlb")
    assert set(found) == {"demo-brokers", "demo-kafka", "demo-kafka-outside", "demo-outside-0", "demo-outside-1"}
    for name in ("demo-kafka-outside", "demo-outside-0", "demo-outside-1"):
        assert found[name]["spec"]["type"] == "LoadBalancer"
        assert found[name]["spec"]["loadBalancerClass"] == "nlb"
        assert found[name]["spec"]["ports"] == [
            {"name": "outside", "port": 9094, "targetPort": 9094, "protocol": "TCP"}
        ]
    assert "statefulset.kubernetes.io/pod-name" not in found["demo-kafka-outside"]["spec"]["selector"]
    selector = found["demo-outside-1"]["spec"]["selector"]
    assert selector["statefulset.kubernetes.io/pod-name"] == "demo-broker-1"
    assert selector["automq.io/cluster"] == "demo"


def test_outside_addresses_get_their_dns_records() -> None:
    found = _services(range(2), type="LoadBalancer", host="b{id}.kafka.example", bootstrapHost="kafka.example")
    hosts = {name: service["metadata"].get("annotations", {}).get(DNS) for name, service in found.items()}
    assert hosts == {
        "demo-brokers": None,
        "demo-kafka": None,
        "demo-kafka-outside": "kafka.example",
        "demo-outside-0": "b0.kafka.example",
        "demo-outside-1": "b1.kafka.example",
    }


def test_an_address_is_no_name_for_a_record() -> None:
    found = _services(range(1), type="NodePort", bootstrapHost="[fd00::1]")
    assert "annotations" not in found["demo-kafka-outside"]["metadata"]


def test_annotations_of_a_listener_are_on_its_services_and_win() -> None:
    given = {"scheme": "internal", "name": "broker-{id}", DNS: "{id}.other.example"}
    found = _services(range(1), type="LoadBalancer", host="b{id}.kafka.example", annotations=given)
    assert found["demo-kafka-outside"]["metadata"]["annotations"] == {"scheme": "internal"}
    assert found["demo-outside-0"]["metadata"]["annotations"] == {
        "scheme": "internal",
        "name": "broker-0",
        DNS: "0.other.example",
    }
    assert "annotations" not in found["demo-kafka"]["metadata"]


def test_ranges_of_clients_are_those_of_the_load_balancers() -> None:
    peers = [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"podSelector": {}}]
    found = _services(range(1), type="LoadBalancer", allowFrom=peers)
    assert found["demo-outside-0"]["spec"]["loadBalancerSourceRanges"] == ["10.0.0.0/8"]
    assert "loadBalancerSourceRanges" not in _services(range(1), type="NodePort", allowFrom=peers)["demo-kafka-outside"]


def test_names_of_services_fit_a_label_whatever_is_allowed() -> None:
    listener = {"name": "l" * 15, "port": 9094, "type": "LoadBalancer"}
    cluster = a_cluster(listeners=[INTERNAL, listener])
    found = network.services(cluster, [99])
    longest = max(len(service["metadata"]["name"]) for service in found) - len(cluster.name) + api.MAX_NAME
    assert longest <= 63


def test_a_host_template_is_filled_in_by_the_kubelet() -> None:
    def advertised(**listener: Any) -> str:
        cluster = a_cluster(listeners=[INTERNAL, {"name": "outside", "port": 9094, **listener}])
        (container,) = workload.pod_template(cluster)["spec"]["containers"]
        assert container["args"][-1] == "/etc/automq/config/broker.properties"
        env = container["env"]
        names = [item["name"] for item in env]
        assert names.index("KAFKA_NODE_ID") < names.index("KAFKA_ADVERTISED_LISTENERS")
        return str(env[names.index("KAFKA_ADVERTISED_LISTENERS")]["value"]).split(",")[1]

    host = "b{id}.kafka.example"
    assert advertised(type="LoadBalancer", host=host) == "outside://b$(KAFKA_NODE_ID).kafka.example:9094"


def test_each_broker_advertises_its_own_port_of_the_nodes() -> None:
    def advertised(node_id: int, **listener: Any) -> str:
        cluster = a_cluster(listeners=[INTERNAL, {"name": "outside", "port": 9094, "type": "NodePort", **listener}])
        (container,) = workload.pod_template(cluster)["spec"]["containers"]
        assert container["args"][-1] == "/etc/automq/config/$(POD_NAME).properties"
        ports = {("outside", 0): 30123, ("outside", 1): 30456}
        own = own_settings(cluster, Layout(kept=(2,), node_ports={"outside": 30001}, broker_ports=ports))
        return own[node_id]["advertised.listeners"].split(",")[1]

    assert advertised(0) == "outside://[${env:HOST_IP}]:30123"
    assert advertised(1) == "outside://[${env:HOST_IP}]:30456"
    assert advertised(1, host="b{id}.kafka.example") == "outside://b1.kafka.example:30456"


def test_a_broker_whose_port_is_not_known_does_without_the_listener() -> None:
    cluster = a_cluster(listeners=[INTERNAL, {"name": "outside", "port": 9094, "type": "NodePort"}])
    layout = Layout(kept=(2,), node_ports={"outside": 30001}, broker_ports={("outside", 0): 30123})
    found = own_settings(cluster, layout)
    assert "outside" in found[0]["listeners"]
    assert "outside" not in found[1]["listeners"]


def test_brokers_tell_each_other_the_address_of_the_pod_and_not_its_name() -> None:
    (container,) = workload.pod_template(a_cluster())["spec"]["containers"]
    values = {item["name"]: item.get("value") for item in container["env"]}
    assert values["AUTOMQ_INTERNAL_ADVERTISED_LISTENER"] == "[$(POD_IP)]:9405"
    assert list(values).index("POD_IP") < list(values).index("AUTOMQ_INTERNAL_ADVERTISED_LISTENER")


def test_addresses_of_load_balancers_as_clients_take_them() -> None:
    def live(*ingress: dict[str, str]) -> dict[str, Any]:
        return {"status": {"loadBalancer": {"ingress": list(ingress)}}}

    assert network.ingress_address(None) is None
    assert network.ingress_address({"status": {"loadBalancer": {}}}) is None
    assert network.ingress_address(live({"ip": "1.2.3.4"})) == "1.2.3.4"
    assert network.ingress_address(live({"hostname": "a.elb.example", "ip": "1.2.3.4"})) == "a.elb.example"
    assert network.ingress_address(live({}, {"ip": "fd00::1"})) == "[fd00::1]"
