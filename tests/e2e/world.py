"""The hands of the run: what stories do to clusters and ask of them."""

import json
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

import boto3
import yaml
from botocore.client import Config
from botocore.exceptions import ClientError

from tests.e2e.environment import ROOT, Environment, get, kubectl, patient, run, wait_for


class World:
    """One run: the operator in a namespace of its own, clusters in another."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.system, self.namespace = "automq-system", "automq-e2e"
        self.erase_s = 60
        self.bucket_name = f"e2e-{secrets.token_hex(4)}"
        """Of this run alone: data of an earlier one have another owner."""
        self.namespaces: list[str] = []
        """Beside the run's own."""
        self.kept: list[str] = []
        self.kept_id = ""
        self._s3 = boto3.client(
            "s3",
            endpoint_url=environment.s3_endpoint_here,
            aws_access_key_id=environment.access_key,
            aws_secret_access_key=environment.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
        )

    # The operator.

    def helm_install(self, *more: str, image: str | None = None) -> None:
        repository, tag = (image or self.environment.image).rsplit(":", 1)
        run(
            "helm", "upgrade", "--install", "automq-operator", str(ROOT / "charts/automq-operator"),
            "--namespace", self.system, "--create-namespace", "--set", f"image.repository={repository}",
            "--set-string", f"image.tag={tag}", "--set", f"eraseSeconds={self.erase_s}", *more, timeout_s=180,
        )  # fmt: skip
        if not get("namespace", self.namespace, self.system):
            kubectl("create", "namespace", self.namespace)

    def operator_ready(self) -> int:
        return int(get("deployment", "automq-operator", self.system).get("status", {}).get("readyReplicas", 0))

    def leader(self) -> str:
        lease = get("lease", "automq-operator", self.system)
        return str(lease["spec"]["holderIdentity"])

    def operator_metric(self, name: str) -> float:
        """Summed over its labels, from the leading replica."""
        path = f"/api/v1/namespaces/{self.system}/pods/{self.leader()}:8080/proxy/metrics"
        text = kubectl("get", "--raw", path)
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))

    # Clusters.

    def manifest(
        self,
        name: str,
        *,
        spec: Mapping[str, Any] | None = None,
        storage: Mapping[str, Any] | None = None,
        listeners: bool = False,
        namespace: str | None = None,
    ) -> str:
        given = dict(spec or {})
        base: dict[str, Any] = {
            "bucket": self.bucket_name,
            "region": "us-east-1",
            "endpoint": self.environment.s3_endpoint,
            "credentialsSecret": "demo-s3",
        }
        wanted = given.pop("storage", None)
        body: dict[str, Any] = {"storage": {} if wanted == {} else {**base, **(storage or {}), **(wanted or {})}}
        # Small requests: the test machine has two cores for everything.
        body["resources"] = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}
        if listeners:
            body["listeners"] = [
                {"name": "internal", "port": 9092, "type": "Internal"},
                {"name": "outside", "port": 9094, "type": "NodePort"},
            ]
        return yaml.safe_dump(
            {
                "apiVersion": "automq.io/v1alpha1",
                "kind": "AutoMQCluster",
                "metadata": {"name": name, "namespace": namespace or self.namespace},
                "spec": {**body, **given},
            }
        )

    def apply(self, name: str, **options: Any) -> None:
        kubectl("apply", "-f", "-", stdin=self.manifest(name, **options))

    def patch(self, name: str, patch: Mapping[str, Any]) -> None:
        kubectl("-n", self.namespace, "patch", "amq", name, "--type=merge", "-p", json.dumps(patch))

    def path(self, name: str) -> str:
        return f"/apis/automq.io/v1alpha1/namespaces/{self.namespace}/automqclusters/{name}"

    def spec(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = get("amq", name, self.namespace)["spec"]
        return found

    def status(self, name: str, *, namespace: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = get("amq", name, namespace or self.namespace).get("status", {})
        return found

    def condition(self, name: str, kind: str, *, namespace: str | None = None) -> tuple[str, str]:
        for condition in self.status(name, namespace=namespace).get("conditions", []):
            if condition["type"] == kind:
                return condition["status"], condition["reason"]
        return "", ""

    def message(self, name: str, kind: str) -> str:
        found = [c["message"] for c in self.status(name).get("conditions", []) if c["type"] == kind]
        return str(found[0]) if found else ""

    def wait_ready(self, name: str, timeout_s: float, *, namespace: str | None = None) -> float:
        what = f"{name} is Ready"
        return wait_for(what, lambda: self.condition(name, "Ready", namespace=namespace)[0] == "True", timeout_s)

    def pod(self, name: str) -> dict[str, Any]:
        return get("pod", f"{name}-broker-0", self.namespace)

    def delete_pod(self, name: str, *, force: bool) -> None:
        more = ["--force", "--grace-period=0"] if force else []
        kubectl("-n", self.namespace, "delete", "pod", f"{name}-broker-0", "--wait=false", *more)

    def outside(self, name: str) -> str:
        """The NodePort address of every node, that of the broker's node first."""
        first = self.pod(name)["status"]["hostIP"]
        port = get("service", f"{name}-kafka-outside", self.namespace)["spec"]["ports"][0]["nodePort"]
        nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
        found = [a["address"] for node in nodes for a in node["status"]["addresses"] if a["type"] == "InternalIP"]
        return ",".join(f"{address}:{port}" for address in [first, *(item for item in found if item != first)])

    def node_ports(self, name: str) -> dict[str, str]:
        """The NodePort address of every node, by its name."""
        port = get("service", f"{name}-kafka-outside", self.namespace)["spec"]["ports"][0]["nodePort"]
        found = {}
        for node in json.loads(kubectl("get", "nodes", "-o", "json"))["items"]:
            for address in node["status"]["addresses"]:
                if address["type"] == "InternalIP":
                    found[node["metadata"]["name"]] = f"{address['address']}:{port}"
        return found

    def node_of(self, name: str) -> str:
        """Where the broker runs."""
        return str(self.pod(name)["spec"]["nodeName"])

    # What was told.

    def events(self, name: str, *, namespace: str | None = None) -> list[str]:
        """Reasons of the Events about a cluster."""
        selector = f"involvedObject.kind=AutoMQCluster,involvedObject.name={name}"
        text = kubectl("-n", namespace or self.namespace, "get", "events", "-o", "json", "--field-selector", selector)
        return [event["reason"] for event in json.loads(text)["items"]]

    def wait_event(self, name: str, reason: str, *, namespace: str | None = None) -> None:
        """The Event arrives; Events are posted in the background."""
        wait_for(f"Event {reason} about {name}", lambda: reason in self.events(name, namespace=namespace), 20)

    def operator_said(self, text: str) -> bool:
        """Whether a replica of the operator that runs now has logged it."""
        log = kubectl(
            "-n", self.system, "logs", "-l", "app.kubernetes.io/name=automq-operator", "--tail=-1", "--prefix=false"
        )
        return text in log

    # Secrets and buckets.

    def secret(self, name: str, *, namespace: str | None = None, secret_key: str | None = None) -> None:
        data = {
            "access-key": self.environment.access_key,
            "secret-key": secret_key or self.environment.secret_key,
        }
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace or self.namespace},
            "stringData": data,
        }
        kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    def namespace_with_secret(self, name: str) -> None:
        self.namespaces.append(name)
        kubectl(
            "apply",
            "-f",
            "-",
            stdin=yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        self.secret("demo-s3", namespace=name)

    def bucket(self, name: str) -> None:
        try:
            self._s3.create_bucket(Bucket=name)
        except ClientError as error:
            if "BucketAlready" not in str(error):
                raise

    def keys(self, prefix: str) -> list[str]:
        answer = self._s3.list_objects_v2(Bucket=self.bucket_name, Prefix=prefix)
        return [entry["Key"] for entry in answer.get("Contents", [])]

    def delete(self, name: str, *, timeout_s: float = 60, namespace: str | None = None, cascade: str = "") -> float:
        """Delete a cluster and wait until it is gone; the seconds that took."""
        began = time.monotonic()
        more = [f"--cascade={cascade}"] if cascade else []
        kubectl("-n", namespace or self.namespace, "delete", "amq", name, f"--timeout={patient(timeout_s):.0f}s", *more)
        return time.monotonic() - began

    def clean_up(self) -> None:
        """Remove what the run made. Nothing is forced: a deletion that hangs is a failure of the run's last story."""
        for namespace in (self.namespace, *self.namespaces):
            kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=false", check=False)
