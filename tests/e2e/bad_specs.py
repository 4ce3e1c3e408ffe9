"""Specs that the API server must refuse, each with the field and the word that its answer must name.

A unit test sees to it that every rule of the CRD has its case here.
"""

from typing import Any, Final

Spec = dict[str, Any]

INTERNAL: Final = {"name": "internal", "port": 9092}


def _listeners(*more: Spec) -> Spec:
    return {"listeners": [INTERNAL, *more]}


def _outside(**fields: Any) -> Spec:
    return _listeners({"name": "outside", "port": 9094, "type": "NodePort", **fields})


def _pod(**spec: Any) -> Spec:
    return {"template": {"pod": {"spec": spec}}}


def _metadata(of: str, **fields: Any) -> Spec:
    return {"template": {of: {"metadata": fields}}}


# Names of resources; the answer names metadata.name.
BAD_NAMES: Final = ("1digit", "my.dots", "n" * 41, "n" * 74, "ends-")
NAME_WORD: Final = "small letters, digits and hyphens, a letter first"

BAD_SPECS: Final[list[tuple[Spec, str, str]]] = [
    ({"replicas": -1}, "spec.replicas", "greater than or equal to 0"),
    ({"replicas": 101}, "spec.replicas", "less than or equal to 100"),
    ({"wal": {"type": "Block"}}, "spec.wal.type", "S3"),
    ({"image": "not an image"}, "spec.image", "should match"),
    ({"image": ""}, "spec.image", "at least 1"),
    # Storage: what goes into the store's URI may not bring more of it along.
    ({"storage": {}}, "spec.storage.bucket", "Required"),
    ({"storage": {"bucket": "demo?endpoint=http://elsewhere"}}, "spec.storage.bucket", "should match"),
    ({"storage": {"region": "us-east-1&endpoint=http://elsewhere"}}, "spec.storage.region", "should match"),
    ({"storage": {"endpoint": "http://minio:9000&region=x"}}, "spec.storage.endpoint", "should match"),
    ({"storage": {"endpoint": "http://user:secret@minio:9000"}}, "spec.storage.endpoint", "should match"),
    ({"storage": {"endpoint": "minio:9000"}}, "spec.storage.endpoint", "should match"),
    ({"storage": {"prefix": "a//b"}}, "spec.storage.prefix", "should match"),
    ({"storage": {"prefix": "a/../b"}}, "spec.storage.prefix", "may have no part"),
    ({"storage": {"adopt": "id\nnode.id=9"}}, "spec.storage.adopt", "should match"),
    ({"storage": {"credentialsSecret": "Not_A_Name"}}, "spec.storage.credentialsSecret", "should match"),
    ({"storage": {"deletionPolicy": "Erase"}}, "spec.storage.deletionPolicy", "Retain"),
    # Config: owned keys, and keys that would be something else in a properties file.
    ({"config": {"node.id": "7"}}, "spec.config", "operator sets itself"),
    ({"config": {"broker.rack": "a"}}, "spec.config", "operator sets itself"),
    ({"config": {"listener.security.protocol.map": "a:SSL"}}, "spec.config", "operator sets itself"),
    ({"config": {"automq.storage.uri": "file:///x"}}, "spec.config", "operator sets itself"),
    ({"config": {"automq.cluster.owner": "me"}}, "spec.config", "operator sets itself"),
    ({"config": {"#x": "1"}}, "spec.config", "small letters"),
    ({"config": {"a=b": "1"}}, "spec.config", "small letters"),
    ({"config": {"a\nnode.id": "9"}}, "spec.config", "small letters"),
    ({"config": {"Log.Retention.Ms": "1"}}, "spec.config", "small letters"),
    # Listeners: names and ports become those of containers and Services.
    ({"listeners": []}, "spec.listeners", "at least 1"),
    ({"listeners": [{"name": "outside", "port": 9094, "type": "NodePort"}]}, "spec.listeners", "type Internal"),
    (_listeners({"name": "internal", "port": 9093}), "spec.listeners", "names must be unique"),
    (_listeners({"name": "other", "port": 9092}), "spec.listeners", "ports must be unique"),
    (_listeners({"name": "other", "port": 9404}), "spec.listeners", "9404"),
    (_listeners({"name": "other", "port": 9405}), "spec.listeners", "port 9405 is where brokers reach each other"),
    ({"config": {"automq.internal.listener": ":9999"}}, "spec.config", "operator sets itself"),
    (_listeners({"name": "http", "port": 9093}), "spec.listeners", "name http"),
    (_listeners({"name": "9093", "port": 9093}), "spec.listeners[1].name", "should match"),
    (_listeners({"name": "a--b", "port": 9093}), "spec.listeners[1].name", "should match"),
    (_listeners({"name": "a" * 16, "port": 9093}), "spec.listeners[1].name", "15"),
    (_listeners({"name": "low", "port": 80}), "spec.listeners[1].port", "1024"),
    (_listeners({"name": "other", "port": 9093, "host": "h.example"}), "spec.listeners", "type NodePort or Load"),
    (_listeners({"name": "other", "port": 9093, "annotations": {"a": "b"}}), "spec.listeners", "type NodePort or Load"),
    (_outside(loadBalancerClass="nlb"), "spec.listeners", "loadBalancerClass belongs"),
    (_outside(type="LoadBalancer", host="one.example"), "spec.listeners", "needs {id}"),
    (_outside(type="LoadBalancer", nodePort=30001), "spec.listeners", "nodePort belongs"),
    (_outside(allowFrom=[{"podSelectors": {}}]), "spec.listeners[1].allowFrom[0].podSelectors", "unknown field"),
    (_outside(allowFrom=[{}]), "spec.listeners[1].allowFrom[0]", "at least 1"),
    (_outside(allowFrom=[{"ipBlock": {"cidr": "10.0.0.1"}}]), "spec.listeners[1].allowFrom[0].ipBlock.cidr", "match"),
    ({"networkPolicy": {"metricsFrom": [{"pods": {}}]}}, "spec.networkPolicy.metricsFrom[0].pods", "unknown field"),
    (_listeners({"name": "other", "port": 9093, "nodePort": 30001}), "spec.listeners", "type NodePort"),
    (_outside(nodePort=9094), "spec.listeners[1].nodePort", "30000"),
    (_outside(nodePort=32768), "spec.listeners[1].nodePort", "32767"),
    (_outside(host="a,b://c"), "spec.listeners[1].host", "should match"),
    (
        {
            "listeners": [
                INTERNAL,
                {"name": "one", "port": 9094, "type": "NodePort", "nodePort": 30100},
                {"name": "two", "port": 9095, "type": "NodePort", "nodePort": 30100},
            ]
        },
        "spec.listeners",
        "nodePorts must be unique",
    ),
    # Resources.
    ({"resources": {"requests": {"memory": "9Gi"}, "limits": {"memory": "2Gi"}}}, "spec.resources.requests", "above"),
    ({"resources": {"limits": {"memory": "64Mi"}}}, "spec.resources.requests", "without requests of your own"),
    ({"resources": {"requests": {"cpu": 3}, "limits": {"cpu": "2500m"}}}, "spec.resources.requests", "above"),
    ({"resources": {"requests": {"memory": "lots"}}}, "spec.resources.requests", "quantities"),
    ({"resources": {"limits": {"memory": "2 Gi"}}}, "spec.resources.limits", "quantities"),
    ({"resources": {"requests": {"cpu": 0.5}}}, "spec.resources.requests.cpu", "integer,string"),
    # Autoscaling.
    ({"autoscaling": {"maxReplicas": 101}}, "spec.autoscaling.maxReplicas", "less than or equal to 100"),
    (
        {"autoscaling": {"minReplicas": 2, "maxReplicas": 1}},
        "spec.autoscaling.minReplicas",
        "minReplicas may not be above",
    ),
    ({"autoscaling": {"minReplicas": 1}}, "spec.autoscaling.maxReplicas", "Required"),
    (
        {"autoscaling": {"maxReplicas": 1}, "resources": {"requests": {"memory": "1Gi"}}},
        "spec.autoscaling",
        "needs resources.requests.cpu",
    ),
    # The pod.
    (_pod(nodeSelectors={"disk": "fast"}), "spec.template.pod.spec.nodeSelectors", "unknown field"),
    (_pod(nodeName="node1"), "spec.template.pod.spec.nodeName", "unknown field"),
    (_pod(restartPolicy="Never"), "spec.template.pod.spec.restartPolicy", "unknown field"),
    (_pod(tolerations=[{"keys": "a"}]), "spec.template.pod.spec.tolerations[0].keys", "unknown field"),
    (_pod(tolerations=[{"effect": "NoExec"}]), "spec.template.pod.spec.tolerations[0].effect", "NoExecute"),
    (_pod(imagePullSecrets=["registry"]), "spec.template.pod.spec.imagePullSecrets[0]", "object"),
    (_pod(containers=[{"image": "sidecar"}]), "spec.template.pod.spec.containers[0].name", "Required"),
    (_pod(serviceAccountName="Not_A_Name"), "spec.template.pod.spec.serviceAccountName", "should match"),
    (_metadata("pod", labels={"team": "a b"}), "spec.template.pod.metadata.labels.team", "should match"),
    (_metadata("pod", labels={"a b": "c"}), "spec.template.pod.metadata.labels", "labels must be named"),
    (_metadata("pod", annotations={"a b": "c"}), "spec.template.pod.metadata.annotations", "annotations must be named"),
    (
        _metadata("serviceAccount", labels={"-": "c"}),
        "spec.template.serviceAccount.metadata.labels",
        "labels must be named",
    ),
    (
        _metadata("serviceAccount", annotations={"/x": "c"}),
        "spec.template.serviceAccount.metadata.annotations",
        "annotations must be named",
    ),
    ({"templates": {}}, "spec.templates", "unknown field"),
    ({"topology": {}}, "spec.topology.zones", "Required"),
    ({"topology": {"zones": []}}, "spec.topology.zones", "at least 1"),
    ({"topology": {"zones": ["a", "b", "a"]}}, "spec.topology.zones", "must be unique"),
    ({"topology": {"zones": ["a b"]}}, "spec.topology.zones[0]", "should match"),
    ({"topology": {"zones": [""]}}, "spec.topology.zones[0]", "at least 1"),
    ({"topology": {"zones": list("abcdefghij")}}, "spec.topology.zones", "at most 9"),
    ({"topology": {"zones": ["a"], "key": "not a label"}}, "spec.topology.key", "should match"),
]

BAD_CHANGES: Final[list[tuple[Spec, str, str]]] = [
    ({"storage": {"bucket": "other"}}, "spec.storage.bucket", "make a new resource"),
    ({"storage": {"prefix": "x"}}, "spec.storage.prefix", "make a new resource"),
    ({"storage": {"endpoint": "http://other.example"}}, "spec.storage.endpoint", "make a new resource"),
]
"""Changes of a cluster that has an id."""

ZONED: Final[Spec] = {"replicas": 0, "paused": True, "topology": {"zones": ["a", "b"]}}
BAD_ZONED_CHANGES: Final[list[tuple[Spec, str, str]]] = [
    ({**ZONED, "topology": topology}, "spec.topology", "may be added at the end")
    for topology in (None, {"zones": ["a"]}, {"zones": ["b", "a"]}, {"zones": ["c", "a", "b"]},
                     {"zones": ["a", "b"], "key": "rack"})
]  # fmt: skip
"""Changes of a cluster over zones."""
GOOD_ZONED_CHANGES: Final[list[Spec]] = [{**ZONED, "topology": {"zones": ["a", "b", "c"]}}]

UNPROVOKED: Final = frozenset({"wal.type cannot change: make a new resource"})
"""Messages of rules that no spec can break yet: there is one type."""

GOOD_SPECS: Final[list[Spec]] = [
    {"storage": {"region": "auto", "endpoint": "https://[fd00::1]:9000/"}},
    {"storage": {"bucket": "My_Bucket.1", "prefix": "a/b-c_d.e"}},
    {"config": {"log.retention.ms": "1", "automq.wal.interval.ms": "100", "num.partitions": "3"}},
    {"resources": {"requests": {"cpu": 1, "memory": "1G"}, "limits": {"cpu": "1000m", "memory": "1Gi"}}},
    {"resources": {"requests": {"cpu": "0.5", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}},
    _outside(nodePort=30000, host="kafka.example"),
    _outside(host="broker-{id}.example", bootstrapHost="kafka.example", allowFrom=[{"namespaceSelector": {}}]),
    _outside(
        type="LoadBalancer",
        host="{id}.kafka.example",
        annotations={"a.b/scheme": "internal", "a.b/name": "broker-{id}"},
        loadBalancerClass="service.k8s.aws/nlb",
        allowFrom=[{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
    ),
    {"replicas": 0},
    {"topology": {"zones": ["eu-central-1a", "B_2"], "key": "example.org/rack"}},
    {"networkPolicy": {"enabled": False}},
    {
        "autoscaling": {
            "maxReplicas": 1,
            "targetCPU": 65,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 120}},
        }
    },
    {
        "autoscaling": {"maxReplicas": 1, "metrics": [{"type": "Pods", "pods": {"metric": {"name": "m"}}}]},
        "resources": {"requests": {"memory": "1Gi"}},
    },
    {"networkPolicy": {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "watch"}}}]}},
    _pod(
        affinity={"podAntiAffinity": {}},
        nodeSelector={"disk": "fast"},
        tolerations=[{"operator": "Exists"}],
        imagePullSecrets=[{"name": "registry.example"}],
        priorityClassName="high",
        containers=[{"name": "broker", "env": [{"name": "A", "value": ""}]}, {"name": "sidecar", "image": "x"}],
        topologySpreadConstraints=[{"maxSkew": 1}],
        hostNetwork=False,
    ),
    _metadata("pod", labels={"app.example/team": "a", "empty": ""}, annotations={"a.b/c": "any thing\nat all"}),
    _metadata("serviceAccount", annotations={"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}),
]
"""Odd, and accepted."""

TOPIC: Final[Spec] = {"cluster": "nobody", "topicName": "Orders_1.eu"}
BAD_TOPICS: Final[list[tuple[str, Spec, str, str]]] = [
    ("t", {}, "spec.cluster", "Required"),
    ("t", {"cluster": "Not A Name"}, "spec.cluster", "should match"),
    ("t", {"cluster": "demo", "topicName": ""}, "spec.topicName", "at least 1"),
    ("t", {"cluster": "demo", "topicName": "a b"}, "spec.topicName", "should match"),
    ("t", {"cluster": "demo", "topicName": "t" * 250}, "spec.topicName", "may not be more than 249"),
    ("t", {"cluster": "demo", "topicName": "__consumer_offsets"}, "spec.topicName", "two underscores"),
    ("t", {"cluster": "demo", "topicName": "."}, "spec.topicName", "may not be '.' or '..'"),
    ("t", {"cluster": "demo", "topicName": ".."}, "spec.topicName", "may not be '.' or '..'"),
    ("t" * 250, {"cluster": "demo"}, "metadata.name", "249 characters at most"),
    ("t", {"cluster": "demo", "partitions": 0}, "spec.partitions", "greater than or equal to 1"),
    ("t", {"cluster": "demo", "partitions": 100_001}, "spec.partitions", "less than or equal to 100000"),
    ("t", {"cluster": "demo", "partitions": "3"}, "spec.partitions", "integer"),
    ("t", {"cluster": "demo", "configs": {"Retention.MS": "1"}}, "spec.configs", "Kafka's names"),
    ("t", {"cluster": "demo", "configs": {"retention.ms": 1}}, "spec.configs.retention.ms", "string"),
    ("t", {"cluster": "demo", "deletionPolicy": "Keep"}, "spec.deletionPolicy", "Retain"),
    ("t", {"cluster": "demo", "replicas": 3}, "spec.replicas", "unknown field"),
]
"""Name, spec, and what the answer names."""
BAD_TOPIC_CHANGES: Final[list[tuple[Spec, str, str]]] = [
    ({**TOPIC, "cluster": "other"}, "spec.cluster", "make a new resource"),
    ({**TOPIC, "topicName": "other"}, "spec.topicName", "make a new resource"),
    ({**TOPIC, "topicName": None}, "spec.topicName", "make a new resource"),
]
GOOD_TOPICS: Final[list[tuple[str, Spec]]] = [
    ("t" * 250, {"cluster": "demo", "topicName": "short"}),
    ("with.dots", {"cluster": "demo", "partitions": 100_000, "configs": {"cleanup.policy": "compact,delete"}}),
    ("t", {"cluster": "demo", "topicName": "...", "deletionPolicy": "Delete"}),
]
