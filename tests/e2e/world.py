"""The hands of the run: what steps do to the cluster and ask of it."""

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import boto3
import yaml
from botocore.client import Config
from botocore.exceptions import ClientError

from tests.e2e import clients
from tests.e2e.environment import ROOT, Environment, StepFailed, get, items, kubectl, run, wait_for


class Skipped(Exception):
    """A step cannot be shown here; says why."""


class World:
    """One run: the operator in a namespace of its own, clusters in another."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.system, self.namespace = "automq-system", "automq-e2e"
        self.erase_s = 90
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

    def helm_install(self, *more: str) -> None:
        repository, tag = self.environment.image.rsplit(":", 1)
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
            "bucket": "demo-kafka",
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

    def keys(self, bucket: str, prefix: str) -> list[str]:
        answer = self._s3.list_objects_v2(Bucket=bucket, Prefix=prefix)
        return [entry["Key"] for entry in answer.get("Contents", [])]

    # Faults.

    def through_a_fault(self, name: str, topic: str, fault: Callable[[], None], limit_s: float) -> float:
        """A producer runs while it happens; the longest time without an acknowledgement. Nothing is lost or doubled."""
        bootstrap = self.outside(name)
        clients.create_topic(bootstrap, topic)
        with clients.SteadyProducer(bootstrap, topic) as producer:
            wait_for("records are acknowledged", lambda: len(producer.acked) > 50, 30)
            began, before = time.monotonic(), len(producer.acked)
            fault()
            time.sleep(1)
            self.wait_ready(name, 120)
            known = len(producer.acked)
            wait_for("records are acknowledged again", lambda: len(producer.acked) > max(known, before) + 50, 60)
            seconds = producer.longest_silence_s(began)
        clients.check_exactly_once(self.outside(name), topic, producer)
        if seconds > limit_s:
            raise StepFailed(f"no acknowledgement for {seconds:.1f} s, more than {limit_s:.0f}")
        return seconds

    def through_one_replacement(
        self, name: str, topic: str, change: Callable[[], None], *, timeout_s: float = 60
    ) -> None:
        uid = self.pod(name)["metadata"]["uid"]
        seen = {uid}

        def settled() -> bool:
            pod = self.pod(name)
            if pod:
                seen.add(pod["metadata"]["uid"])
            return (
                len(seen) > 1
                and self.condition(name, "Progressing") == ("False", "Settled")
                and (self.condition(name, "Ready")[0] == "True")
            )

        def fault() -> None:
            change()
            wait_for("the pod is replaced and all is settled", settled, timeout_s)
            time.sleep(3)
            settled()

        self.through_a_fault(name, topic, fault, 60)
        if len(seen) != 2:
            raise StepFailed(f"the pod was replaced {len(seen) - 1} times")

    def through_a_lost_node(self, name: str, topic: str, break_word: str, mend_word: str) -> float:
        """Break the broker's node; the replacement serves elsewhere, and the old one acknowledges nothing more."""
        command = self.environment.node_command
        if command is None:
            raise Skipped("E2E_NODE_COMMAND cannot break nodes")
        self._move_off_the_first_node(name)
        node = self.pod(name)["spec"]["nodeName"]
        old = self.outside(name)
        clients.create_topic(old, topic)
        try:
            with clients.SteadyProducer(old, topic) as producer:
                wait_for("records are acknowledged", lambda: len(producer.acked) > 50, 30)
                run(*command.split(), break_word, node)
                began = time.monotonic()
                wait_for("a pod elsewhere", lambda: self.pod(name).get("spec", {}).get("nodeName", node) != node, 120)
                time.sleep(1)
                self.wait_ready(name, 120)
                seconds = time.monotonic() - began
                time.sleep(3)
            clients_values = clients.read_all(self.outside(name), topic)
            lost = [value for value in producer.acked if value not in set(clients_values)]
            if lost or len(clients_values) != len(set(clients_values)):
                raise StepFailed(f"{len(lost)} acknowledged records are not on the replacement: {lost[:3]}")
        finally:
            run(*command.split(), mend_word, node)
            kubectl("wait", "--for=condition=Ready", f"node/{node}", "--timeout=120s")
        return seconds

    def _move_off_the_first_node(self, name: str) -> None:
        """The first node carries the cluster's DNS; break another."""
        if self.pod(name)["spec"]["nodeName"] != "node1":
            return
        kubectl("cordon", "node1")
        try:
            self.delete_pod(name, force=False)
            wait_for(
                "a pod on another node", lambda: self.pod(name).get("spec", {}).get("nodeName", "node1") != "node1", 90
            )
            time.sleep(1)
            self.wait_ready(name, 90)
        finally:
            kubectl("uncordon", "node1")

    def heals(self, name: str, reason: str, storage: Mapping[str, Any], repair: Callable[[], None]) -> None:
        """A cluster whose store is wrong says so, and heals without a restart when it is repaired."""
        self.apply(name, storage=storage)
        wait_for(f"{reason} shows", lambda: self.condition(name, "StorageReady") == ("False", reason), 60)
        uid = self.pod(name)["metadata"]["uid"]
        repair()
        self.wait_ready(name, 150)
        pod = self.pod(name)
        if pod["metadata"]["uid"] != uid or pod["status"]["containerStatuses"][0]["restartCount"]:
            raise StepFailed("the broker was restarted")
        kubectl("-n", self.namespace, "delete", "amq", name, "--timeout=60s")

    # Images.

    def other_image(self) -> str | None:
        return os.environ.get("E2E_OTHER_IMAGE")

    def clean_up(self) -> None:
        """Remove what the run made, as far as it goes."""
        for cluster in items("amq", self.namespace) if get("namespace", self.namespace, self.system) else []:
            name = cluster["metadata"]["name"]
            kubectl(
                "-n",
                self.namespace,
                "patch",
                "amq",
                name,
                "--type=merge",
                "-p",
                '{"metadata":{"finalizers":[]}}',
                check=False,
            )
            kubectl("-n", self.namespace, "delete", "amq", name, "--wait=false", check=False)
        for namespace in (self.namespace, "elsewhere"):
            kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=false", check=False)
