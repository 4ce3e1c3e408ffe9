"""Every condition and every reason it can have, with what to do; docs/kubernetes.md is made from this table."""

import enum
from typing import Final


class ConditionType(enum.StrEnum):
    """The aspects that are reported."""

    READY = "Ready"
    STORAGE_READY = "StorageReady"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    AUTOSCALING = "AutoscalingActive"
    SCALING = "ScalingSettled"
    CONFIG = "ConfigApplied"
    SYNCED = "Synced"


class Reason(enum.StrEnum):
    """Closed set. The store's reasons carry the broker's own words."""

    SERVING = "Serving"
    STARTING = "Starting"
    BROKER_DOWN = "BrokerDown"
    POD_PENDING = "PodPending"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    NODE_NOT_READY = "NodeNotReady"
    UNOBSERVABLE = "Unobservable"
    NAME_CONFLICT = "NameConflict"
    REFUSED = "Refused"
    INTERNAL_ERROR = "InternalError"
    INVALID_SPEC = "InvalidSpec"
    INVALID_SETTINGS = "InvalidSettings"
    ADDRESS_IN_USE = "AddressInUse"
    FENCED = "Fenced"
    STORE = "Store"
    AVAILABLE = "Available"
    UNKNOWN = "Unknown"
    STORE_UNREACHABLE = "StoreUnreachable"
    STORE_CREDENTIALS_REJECTED = "StoreCredentialsRejected"
    STORE_ACCESS_DENIED = "StoreAccessDenied"
    BUCKET_NOT_FOUND = "BucketNotFound"
    STORE_UNSUITABLE = "StoreUnsuitable"
    STORE_OWNED_BY_ANOTHER = "StoreOwnedByAnother"
    STORE_CLUSTER_MISSING = "StoreClusterMissing"
    STORE_FORMAT_TOO_NEW = "StoreFormatTooNew"
    STORE_DAMAGED = "StoreDamaged"
    SETTLED = "Settled"
    DEPLOYING = "Deploying"
    ROLLING = "Rolling"
    REPLACING = "Replacing"
    MOST_NODES_NOT_READY = "MostNodesNotReady"
    NO_NODE_LEFT = "NoNodeLeft"
    SCALING_IN = "ScalingIn"
    SCALING_OUT = "ScalingOut"
    BALANCING = "Balancing"
    DRAINING = "Draining"
    UPGRADE_PENDING = "UpgradePending"
    WAITING_FOR_NODE_PORT = "WaitingForNodePort"
    WAITING_FOR_LOAD_BALANCER = "WaitingForLoadBalancer"
    RUNNING = "Running"
    ASKED = "Asked"
    PAUSED = "Paused"
    STOPPING = "Stopping"
    ERASING = "Erasing"
    DATA_LEFT_BEHIND = "DataLeftBehind"
    SCALING = "Scaling"
    AT_LIMIT = "AtLimit"
    NOT_SEEN_YET = "NotSeenYet"
    METRICS_MISSING = "MetricsMissing"
    AUTOSCALERS_CONFLICT = "AutoscalersConflict"
    NOT_ABLE = "NotAble"
    SCALED_TO_ZERO = "ScaledToZero"
    CONFIGURING = "Configuring"
    CANNOT_SHRINK = "CannotShrink"
    CLUSTER_NOT_READY = "ClusterNotReady"
    UNREACHABLE = "Unreachable"


STORE_REASONS: Final = frozenset({
    Reason.STORE_UNREACHABLE, Reason.STORE_CREDENTIALS_REJECTED, Reason.STORE_ACCESS_DENIED, Reason.BUCKET_NOT_FOUND,
    Reason.STORE_UNSUITABLE, Reason.STORE_OWNED_BY_ANOTHER, Reason.STORE_CLUSTER_MISSING, Reason.STORE_FORMAT_TOO_NEW,
    Reason.STORE_DAMAGED,
})  # fmt: skip

READY, STORAGE, PROGRESSING, PAUSED, AUTOSCALING, SCALED, CONFIGS, SYNCED = ConditionType

MEANINGS: Final[dict[tuple[ConditionType, Reason], str]] = {
    (READY, Reason.SERVING): "Every wanted broker serves, but for those that were just added. Nothing to do.",
    (READY, Reason.STARTING): "A broker starts or recovers its log. Wait; it takes seconds.",
    (
        READY,
        Reason.BROKER_DOWN,
    ): "A broker process ended. It is started again by itself; the message has its last words.",
    (
        READY,
        Reason.POD_PENDING,
    ): "A pod cannot be placed. `kubectl describe pod` says what is missing: CPU, memory, a node.",
    (READY, Reason.IMAGE_UNAVAILABLE): "The node cannot get the image. Check spec.image and imagePullSecrets.",
    (
        READY,
        Reason.NODE_NOT_READY,
    ): "Kubernetes says that the node of a broker is not ready and the broker does not answer "
    "either. It is replaced where a Ready node can take it; see Progressing.",
    (
        READY,
        Reason.UNOBSERVABLE,
    ): "The kubelet says that the pod is Ready, and its port 9404 does not answer the operator. "
    "Clients are served. Look for a NetworkPolicy between the operator and the brokers.",
    (
        READY,
        Reason.REFUSED,
    ): "The API server refused an object that clients need; the message has its words. Correct the "
    "spec, a quota or a policy; it is tried again by itself.",
    (
        READY,
        Reason.INTERNAL_ERROR,
    ): "The operator failed on this cluster; the message and the operator's log say how. Brokers "
    "are not touched. Report it.",
    (
        READY,
        Reason.PAUSED,
    ): "Not everything that clients need is there, and the pause keeps the operator from making it.",
    (
        READY,
        Reason.STOPPING,
    ): "The resource is being deleted, and its brokers are stopped before its data are removed. Wait.",
    (
        READY,
        Reason.ERASING,
    ): "The resource is being deleted, and a Job removes its data. Wait; `kubectl logs` of the Job says what keeps it. "
    "To delete it at once and keep the data set storage.deletionPolicy to Retain.",
    (
        READY,
        Reason.DATA_LEFT_BEHIND,
    ): "The resource goes and its data stay; the message says why, and how to remove or adopt them.",
    (READY, Reason.NAME_CONFLICT): "An object of a name that is needed belongs to somebody else. Rename or remove it.",
    (READY, Reason.INVALID_SPEC): "The spec cannot be read; the message names the field. Correct it.",
    (
        READY,
        Reason.INVALID_SETTINGS,
    ): "The broker refuses its settings; the message names key and remedy. Correct spec.config.",
    (READY, Reason.ADDRESS_IN_USE): "A port is taken inside the pod. Check extra containers in spec.template.",
    (
        READY,
        Reason.FENCED,
    ): "Another process has taken over, or the cluster gave the broker up; the operator restarts it.",
    (READY, Reason.STORE): "The store keeps the broker from serving: see StorageReady.",
    (STORAGE, Reason.AVAILABLE): "The store answers. Nothing to do.",
    (STORAGE, Reason.UNKNOWN): "No broker has said anything about the store yet.",
    (
        STORAGE,
        Reason.STORE_UNREACHABLE,
    ): "No answer from the endpoint. Check storage.endpoint, DNS, network. Heals by itself.",
    (STORAGE, Reason.STORE_CREDENTIALS_REJECTED): "The store refuses the credentials, or the Secret or a key in it is "
    "missing. Repair the Secret; no restart is needed.",
    (
        STORAGE,
        Reason.STORE_ACCESS_DENIED,
    ): "The identity may not use the bucket. Grant list, get, put and delete on it.",
    (
        STORAGE,
        Reason.BUCKET_NOT_FOUND,
    ): "There is no such bucket. Create it, or correct a new resource. Heals by itself.",
    (STORAGE, Reason.STORE_UNSUITABLE): "The store failed a check it must pass, or the prefix holds something else. "
    "Run `automq doctor`; use another store or prefix.",
    (
        STORAGE,
        Reason.STORE_OWNED_BY_ANOTHER,
    ): "Another resource owns this prefix; the message names the cluster id. Use another "
    "prefix, or take the data over with storage.adopt once the owner is gone.",
    (
        STORAGE,
        Reason.STORE_CLUSTER_MISSING,
    ): "The prefix is empty or holds another cluster, though this one has an id: the bucket "
    "was made anew or emptied. Restore it, or make a new resource.",
    (STORAGE, Reason.STORE_FORMAT_TOO_NEW): "A newer release wrote these data. Use an image of that release.",
    (
        STORAGE,
        Reason.STORE_DAMAGED,
    ): "Something that must be in the store is missing or does not decode; the message names "
    "the key. Nothing was deleted. Look with `automq fsck`; only `automq repair` gives data up.",
    (PROGRESSING, Reason.SETTLED): "Everything is as the spec says.",
    (PROGRESSING, Reason.DEPLOYING): "Objects are being made. Wait.",
    (PROGRESSING, Reason.ROLLING): "A broker is replaced because configuration or image changed. Wait.",
    (PROGRESSING, Reason.FENCED): "A broker that the cluster gave up while it was cut off is restarted. Wait.",
    (PROGRESSING, Reason.REPLACING): "The pod of a lost node is replaced. Wait.",
    (
        PROGRESSING,
        Reason.STARTING,
    ): "Pods are missing, or are new and do not serve yet. Wait; Ready says what keeps one.",
    (
        PROGRESSING,
        Reason.SCALING_IN,
    ): "Brokers beyond spec.replicas are emptied, each by its own word, and end then; the message says what each still "
    "has. Raising replicas again ends it.",
    (
        PROGRESSING,
        Reason.DRAINING,
    ): "The annotation automq.io/drain names a broker, which is being emptied. Take it back to end that.",
    (SCALED, Reason.SETTLED): "Every wanted broker serves and has its share, and no other is left. Nothing to do.",
    (SCALED, Reason.SCALED_TO_ZERO): "spec.replicas is 0, and no broker runs.",
    (SCALED, Reason.STOPPING): "spec.replicas is 0, and brokers still end. Wait.",
    (
        SCALED,
        Reason.SCALING_IN,
    ): "Brokers beyond spec.replicas are emptied, end, and are forgotten by the cluster. Wait; Progressing says more.",
    (SCALED, Reason.SCALING_OUT): "Not every wanted broker serves yet; Ready says why where one is not well.",
    (SCALED, Reason.BALANCING): "Partitions move to brokers that just came, or came back. Wait; it takes seconds.",
    (
        PROGRESSING,
        Reason.UPGRADE_PENDING,
    ): "The operator was upgraded and would make other pods. Clusters are moved one at a "
    "time, each after the one before it has been Ready for 60 s. Set spec.image to stay.",
    (
        PROGRESSING,
        Reason.MOST_NODES_NOT_READY,
    ): "Most nodes are not ready: that is between them and the API server. No broker is replaced until it is over.",
    (
        PROGRESSING,
        Reason.NO_NODE_LEFT,
    ): "The node of a broker is lost and no Ready, schedulable node can take it. Add one, or uncordon one.",
    (
        PROGRESSING,
        Reason.REFUSED,
    ): "The API server refused an object; the message has kind, name and its words. Correct the "
    "spec, a quota or a policy; it is tried again by itself.",
    (
        PROGRESSING,
        Reason.NAME_CONFLICT,
    ): "An object of a name that is needed belongs to somebody else. Rename or remove it.",
    (PROGRESSING, Reason.PAUSED): "The cluster is paused: nothing is changed.",
    (PROGRESSING, Reason.WAITING_FOR_NODE_PORT): "Kubernetes has not yet given the NodePort listener its port. Wait.",
    (
        PROGRESSING,
        Reason.WAITING_FOR_LOAD_BALANCER,
    ): "A load balancer has no address yet; all else goes on, and each broker is restarted once when its own is known, "
    "unless the listener has a host. `kubectl describe service` says what keeps it; without a controller for load "
    "balancers none will come.",
    (PAUSED, Reason.RUNNING): "The operator works on this cluster.",
    (
        PAUSED,
        Reason.ASKED,
    ): "spec.paused is true, or the annotation automq.io/paused: the operator changes nothing.",
    (
        PROGRESSING,
        Reason.CONFIGURING,
    ): "Settings that brokers take while they run are set; the message names them. Wait; it takes a second.",
    (CONFIGS, Reason.SETTLED): "Every broker that answers has the settings that spec.config asks for. Nothing to do.",
    (CONFIGS, Reason.CONFIGURING): "Settings are being set, without a restart. Wait; it takes a second.",
    (
        CONFIGS,
        Reason.REFUSED,
    ): "Brokers refused a setting, in the words of the message, and go on with what they have. Correct spec.config.",
    (CONFIGS, Reason.UNKNOWN): "No broker that serves has answered yet. Goes on by itself.",
    (CONFIGS, Reason.PAUSED): "Settings differ from spec.config, and the pause keeps the operator from setting them.",
    (SYNCED, Reason.SETTLED): "An AutoMQTopic: the topic is as the spec says. Nothing to do.",
    (SYNCED, Reason.STARTING): "The topic is being made. Wait.",
    (
        SYNCED,
        Reason.CLUSTER_NOT_READY,
    ): "Its cluster is not there, is paused, or has no Ready broker. Goes on by itself.",
    (SYNCED, Reason.UNREACHABLE): "No broker answered; the message says what was tried. Tried again by itself.",
    (SYNCED, Reason.REFUSED): "The cluster refused it, in the words of the message. Correct the spec.",
    (
        SYNCED,
        Reason.CANNOT_SHRINK,
    ): "The topic has more partitions than the spec says, and Kafka takes none away. Raise spec.partitions.",
    (SYNCED, Reason.NAME_CONFLICT): "An older AutoMQTopic is about the same topic. Remove one of them.",
    (READY, Reason.SCALED_TO_ZERO): "spec.replicas is 0. The data are in the bucket; set another number to serve them.",
    (PROGRESSING, Reason.STOPPING): "spec.replicas is 0, and brokers still end. Wait.",
    (
        AUTOSCALING,
        Reason.SCALED_TO_ZERO,
    ): "spec.replicas is 0: the autoscaler rests until somebody sets another number.",
    (AUTOSCALING, Reason.SCALING): "The autoscaler has its metrics and sets spec.replicas.",
    (
        AUTOSCALING,
        Reason.AT_LIMIT,
    ): "It would have more or fewer brokers than minReplicas and maxReplicas allow. Change them if that is not meant.",
    (AUTOSCALING, Reason.NOT_SEEN_YET): "Kubernetes has not looked at the autoscaler yet. Wait some seconds.",
    (
        AUTOSCALING,
        Reason.METRICS_MISSING,
    ): "A metric cannot be had; the message says which. Is metrics-server there, or what serves the metric?",
    (
        AUTOSCALING,
        Reason.AUTOSCALERS_CONFLICT,
    ): "Another autoscaler (an own HorizontalPodAutoscaler, KEDA) scales the same brokers, and Kubernetes stops both. "
    "Remove it, or spec.autoscaling.",
    (
        AUTOSCALING,
        Reason.NOT_ABLE,
    ): "The autoscaler cannot read or write spec.replicas, or is not this cluster's; the message has the words.",
}
"""What each means and what to do. A pair that is not here is never reported."""
