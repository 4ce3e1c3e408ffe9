"""Pure: one AutoMQCluster as the rest of the operator sees it, its resource taken apart once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from automq_operator import api, naming
from automq_operator.zones import counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The resource, parsed. `uid` owns the prefix in the bucket."""

    name: str
    namespace: str
    uid: str
    generation: int
    deleting: bool
    spec: api.Spec
    status: api.Status
    default_image: str
    """What brokers of new clusters run."""
    restart: str = ""
    """Text of the annotation that asks for a restart; empty when there was none ever."""
    asked_to_pause: bool = False
    """By annotation."""
    drain: frozenset[int] = frozenset()
    """Ids of brokers that people want empty, by annotation."""
    pull_secrets: tuple[str, ...] = ()
    """The operator's own for the registry, for the brokers as well."""
    operator_namespace: str = ""
    """Where the operator runs; empty when that is not in the Kubernetes cluster."""
    deployed_image: str | None = None
    """What this one's brokers run, until an upgrade moves them."""

    file_configs: Mapping[str, str] | None = None
    """What brokers find in their file, of the settings that they take while they run; None: what the spec says."""

    @property
    def paused(self) -> bool:
        """Nothing is changed."""
        return self.spec.paused or self.asked_to_pause

    @property
    def image(self) -> str:
        """What the brokers run."""
        return self.spec.image or self.deployed_image or self.default_image

    @property
    def prefix(self) -> str:
        """The folder in the bucket."""
        return self.spec.storage.prefix or f"{self.namespace}/{self.name}"

    @property
    def zones(self) -> Sequence[str]:
        """Names of the zones that it is spread over; empty where it is not told."""
        return self.spec.topology.zones if self.spec.topology is not None else []

    def wanted_by_zone(self) -> tuple[int, ...]:
        """How many brokers each zone is to have; of a cluster without zones one number."""
        return counts(self.spec.replicas, len(self.zones) or 1)

    def node_selector(self, zone: int) -> dict[str, str]:
        """Labels of the nodes of a zone; none where there are no zones."""
        topology = self.spec.topology
        return {topology.key: topology.zones[zone]} if topology is not None and zone < len(topology.zones) else {}

    @property
    def inside_port(self) -> int:
        """Where brokers serve clients inside the Kubernetes cluster, the operator among them."""
        return next(listener.port for listener in self.spec.listeners if listener.type == "Internal")

    @property
    def store_uri(self) -> str:
        """As the broker takes it."""
        storage = self.spec.storage
        options = {
            "endpoint": storage.endpoint,
            "region": storage.region,
            "path_style": "true" if storage.path_style and storage.endpoint else None,
        }
        query = "&".join(f"{key}={quote(value, safe=':/')}" for key, value in options.items() if value)
        return f"s3://{storage.bucket}/{self.prefix}" + (f"?{query}" if query else "")

    @property
    def owner_reference(self) -> dict[str, object]:
        """On every child: it goes when the resource goes."""
        return {
            "apiVersion": f"{api.GROUP}/{api.VERSION}",
            "kind": api.KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }


def parse(
    body: Mapping[str, Any], *, default_image: str, pull_secrets: tuple[str, ...] = (), operator_namespace: str = ""
) -> Cluster:
    """Raises msgspec.ValidationError, whose message names the field."""
    metadata = body["metadata"]
    annotations = metadata.get("annotations") or {}
    return Cluster(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        deleting="deletionTimestamp" in metadata,
        spec=api.parse_spec(body["spec"]),
        status=api.parse_status(body.get("status")),
        default_image=default_image,
        restart=annotations.get(naming.RESTART_ANNOTATION, ""),
        asked_to_pause=annotations.get(naming.PAUSED_ANNOTATION) == "true",
        drain=_ids(annotations.get(naming.DRAIN_ANNOTATION, "")),
        pull_secrets=pull_secrets,
        operator_namespace=operator_namespace,
    )


def _ids(text: str) -> frozenset[int]:
    """Ids between commas; what is none is nobody's."""
    return frozenset(int(part) for part in (item.strip() for item in text.split(",")) if part.isdecimal())
