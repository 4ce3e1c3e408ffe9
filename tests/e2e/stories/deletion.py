"""Clusters are deleted: what goes, what stays, what is said, and that it ends."""

import json
import subprocess
import threading
import time
from typing import Any

import yaml

from tests.e2e import clients, faults
from tests.e2e.environment import StepFailed, get, items, kubectl, wait_for
from tests.e2e.story import Figure
from tests.e2e.world import World

DELETE = {"deletionPolicy": "Delete"}


def clusters_live_side_by_side(world: World) -> None:
    """Of one namespace, and of one name in two."""
    world.apply("beside")
    world.namespace_with_secret("elsewhere")
    world.apply("demo", namespace="elsewhere")
    world.wait_ready("beside", 90)
    world.wait_ready("demo", 90, namespace="elsewhere")
    ids = {world.status("demo")["clusterId"], world.status("beside")["clusterId"]}
    ids.add(world.status("demo", namespace="elsewhere")["clusterId"])
    assert len(ids) == 3, ids
    world.delete("demo", namespace="elsewhere")


def delete_policy_empties_the_prefix(world: World) -> Figure:
    world.patch("beside", {"spec": {"storage": DELETE}})
    seconds = world.delete("beside", timeout_s=120)
    left = world.keys(f"{world.namespace}/beside/")
    assert left == [], left[:5]
    assert world.keys(f"{world.namespace}/demo/"), "others' data are kept"
    world.wait_event("beside", "Erased")
    assert world.events("beside").count("Erasing") == 1
    for kind in ("job", "serviceaccount", "pod"):
        wait_for(
            f"every {kind} is gone", lambda kind=kind: not items(kind, world.namespace, "automq.io/cluster=beside")
        )  # type: ignore[misc]
    return Figure(seconds, 45, "deletion and erasing")


def foreground_deletion_empties_the_prefix_too(world: World) -> Figure:
    world.apply("foreground", storage=DELETE)
    world.wait_ready("foreground", 90)
    seconds = world.delete("foreground", timeout_s=120, cascade="foreground")
    left = world.keys(f"{world.namespace}/foreground/")
    assert left == [], left[:5]
    return Figure(seconds, 45, "deletion and erasing")


def taken_prefix_is_refused_and_its_thief_deletes_nothing(world: World) -> Figure:
    """The remedy is in the resource's words; policy Delete of who never owned the data removes none, at once."""
    world.apply("thief", storage={"prefix": f"{world.namespace}/demo", **DELETE})
    wait_for(
        "the prefix is refused",
        lambda: world.condition("thief", "StorageReady") == ("False", "StoreOwnedByAnother"),
        90,
    )
    message = world.message("thief", "StorageReady")
    for word in (world.status("demo")["clusterId"], "spec.storage.adopt"):
        if word not in message:
            raise StepFailed(f"the condition does not name {word}: {message}")
    world.wait_event("thief", "StoreOwnedByAnother")
    before = len(world.keys(f"{world.namespace}/demo/"))
    seconds = world.delete("thief", timeout_s=90)
    assert len(world.keys(f"{world.namespace}/demo/")) >= min(before, 5)
    assert world.condition("demo", "Ready")[0] == "True"
    return Figure(seconds, 30, "deletion")


def cluster_that_is_deleted_before_it_is_known_leaves_nothing(world: World) -> None:
    """The broker has formatted the prefix, and nobody has heard of the id."""
    world.apply("early", storage=DELETE)
    wait_for("keys appear", lambda: world.keys(f"{world.namespace}/early/"), 60, every_s=0.1)
    world.delete("early", timeout_s=120)
    left = [key for key in world.keys(f"{world.namespace}/early/") if "/doctor/" not in key]
    assert left == [], left[:5]
    world.apply("early", storage=DELETE)
    world.wait_ready("early", 90)
    world.delete("early", timeout_s=120)


def foreign_job_of_the_name_is_not_believed(world: World) -> None:
    world.apply("foreign", storage=DELETE)
    world.wait_ready("foreign", 90)
    uid = get("amq", "foreign", world.namespace)["metadata"]["uid"]
    name = f"foreign-erase-{uid[:8]}"
    container = {"name": "x", "image": world.environment.client_image, "command": ["true"]}
    pod = {"restartPolicy": "Never", "containers": [container]}
    job = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": world.namespace},
        "spec": {"template": {"spec": pod}},
    }  # fmt: skip
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(job))
    kubectl("-n", world.namespace, "wait", "--for=condition=Complete", f"job/{name}", "--timeout=60s")
    kubectl("-n", world.namespace, "delete", "amq", "foreign", "--wait=false")
    wait_for("the conflict shows", lambda: world.condition("foreign", "Ready") == ("False", "NameConflict"), 60)
    kubectl("-n", world.namespace, "delete", "job", name, "--timeout=30s")
    wait_for("it goes", lambda: not get("amq", "foreign", world.namespace), 90)
    assert not world.keys(f"{world.namespace}/foreign/")


def deleted_namespace_does_not_hang_and_says_what_is_left(world: World) -> Figure:
    world.namespace_with_secret("doomed")
    world.apply("demo", namespace="doomed", storage=DELETE)
    world.wait_ready("demo", 90, namespace="doomed")
    with _Watch("doomed", "demo") as watch:
        began = time.monotonic()
        kubectl("delete", "namespace", "doomed", "--wait=false")
        wait_for("the namespace is gone", lambda: not get("namespace", "doomed", world.system), 120)
        seconds = time.monotonic() - began
    assert world.keys("doomed/demo/"), "nothing could be run there to remove them"
    words = [text for reason, text in watch.seen if reason == "DataLeftBehind"]
    if not words or "automq erase" not in words[-1]:
        raise StepFailed(f"the status did not say what is left: {watch.seen}")
    assert world.operator_said("its namespace is being deleted"), "the operator's log does not say it"
    return Figure(seconds, 45, "namespace gone")


class _Watch:
    """Every (reason, message) that Ready went through, for a resource that will not be there afterwards."""

    def __init__(self, namespace: str, name: str) -> None:
        self.seen: list[tuple[str, str]] = []
        command = [
            "kubectl",
            "-n",
            namespace,
            "get",
            "amq",
            name,
            "--watch",
            "-o",
            "json",
            "--output-watch-events=false",
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        assert self._process.stdout is not None
        decoder, text = json.JSONDecoder(), ""
        for line in self._process.stdout:
            text += line
            try:
                body, end = decoder.raw_decode(text)
            except ValueError:
                continue
            text = text[end:].lstrip()
            self._note(body)

    def _note(self, body: dict[str, Any]) -> None:
        for condition in body.get("status", {}).get("conditions", []):
            if condition["type"] == "Ready":
                self.seen.append((condition["reason"], condition["message"]))

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(1)
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)


def deleted_cluster_leaves_the_bucket_and_nothing_else(world: World) -> None:
    world.kept = clients.read_all(world.outside("demo"), "outside")
    world.kept_id = world.status("demo")["clusterId"]
    world.delete("demo")
    for kind in ("statefulset", "service", "configmap", "serviceaccount", "pdb", "pod"):
        wait_for(f"every {kind} is gone", lambda kind=kind: not items(kind, world.namespace, "automq.io/cluster=demo"))  # type: ignore[misc]
    assert world.keys(f"{world.namespace}/demo/"), "the data are kept"


def adopting_cluster_has_all_the_data(world: World) -> None:
    prefix = f"{world.namespace}/demo"
    world.apply("heir", listeners=True, storage={"prefix": prefix, "adopt": world.kept_id})
    world.wait_ready("heir", 120)
    values = clients.read_all(world.outside("heir"), "outside")
    assert values == world.kept, f"{len(values)} records are read, {len(world.kept)} were there before"


def deletion_ends_when_the_store_is_gone(world: World) -> Figure:
    world.patch("heir", {"spec": {"storage": DELETE}})
    with faults.store_stopped(world):
        seconds = world.delete("heir", timeout_s=world.erase_s + 90)
        world.wait_event("heir", "DataLeftBehind")
    return Figure(seconds, world.erase_s + 15, "deletion")
