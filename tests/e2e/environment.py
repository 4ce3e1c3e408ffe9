"""What the run needs from outside, from the environment; and the programs it calls."""

import json
import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PATIENCE = float(os.environ.get("E2E_PATIENCE", "1"))
ROOT = pathlib.Path(__file__).parents[2]


class Missing(Exception):
    """The run cannot start; says what is missing."""


class StepFailed(Exception):
    """A story did not show what it should."""


class Skipped(Exception):
    """A story cannot be shown here; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Settings of one run."""

    image: str
    """E2E_IMAGE: broker and operator, present on every node."""
    next_image: str | None
    """E2E_NEXT_IMAGE: another image of both; without it the stories of other images are skipped."""
    client_image: str
    """E2E_CLIENT_IMAGE: Python with confluent-kafka, present on every node."""
    s3_endpoint: str
    """E2E_S3_ENDPOINT: the S3 server as pods reach it."""
    s3_endpoint_here: str
    """E2E_S3_ENDPOINT_HERE: the same server as this process reaches it."""
    access_key: str
    secret_key: str
    node_command: str | None
    """E2E_NODE_COMMAND: freezes, thaws, cuts and joins nodes, runs programs in them; without it those stories are
    skipped."""
    s3_command: str | None
    """E2E_S3_COMMAND: `stop` and `start` the S3 server; without it the stories that need an outage are skipped."""

    def node(self, *arguments: str) -> str:
        """Break or mend a node, or run a program in one. Raises Skipped where that cannot be done."""
        if self.node_command is None:
            raise Skipped("E2E_NODE_COMMAND cannot break nodes")
        return run(*self.node_command.split(), *arguments)

    def s3(self, verb: str) -> None:
        """`stop` or `start` the S3 server. Raises Skipped where that cannot be done."""
        if self.s3_command is None:
            raise Skipped("E2E_S3_COMMAND cannot stop the S3 server")
        run(*self.s3_command.split(), verb)


def from_environ() -> Environment:
    """Raises Missing."""
    for program in ("kubectl", "helm"):
        if shutil.which(program) is None:
            raise Missing(f"{program} is not on the PATH")
    if "KUBECONFIG" not in os.environ:
        raise Missing("KUBECONFIG names no cluster")
    if "E2E_S3_ENDPOINT" not in os.environ:
        raise Missing("E2E_S3_ENDPOINT names no S3 server")
    endpoint = os.environ["E2E_S3_ENDPOINT"]
    return Environment(
        image=os.environ.get("E2E_IMAGE", "localhost/automq:dev"),
        next_image=os.environ.get("E2E_NEXT_IMAGE"),
        client_image=os.environ.get("E2E_CLIENT_IMAGE", "localhost/automq-client:dev"),
        s3_endpoint=endpoint,
        s3_endpoint_here=os.environ.get("E2E_S3_ENDPOINT_HERE", endpoint),
        access_key=os.environ.get("E2E_ACCESS_KEY", "testbed"),
        secret_key=os.environ.get("E2E_SECRET_KEY", "testbed-secret"),
        node_command=os.environ.get("E2E_NODE_COMMAND"),
        s3_command=os.environ.get("E2E_S3_COMMAND"),
    )


def patient(seconds: float) -> float:
    """How long to wait for what must happen: goals are judged elsewhere, and a shared machine takes its time."""
    return seconds * max(1.0, PATIENCE)


def run(*command: str, stdin: str | None = None, check: bool = True, timeout_s: float = 120) -> str:
    """The standard output of a program."""
    limit_s = patient(timeout_s)
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"{' '.join(command)[:200]}: not done after {limit_s:.0f} s") from error
    if check and done.returncode != 0:
        raise StepFailed(f"{' '.join(command)[:200]}: {done.stderr.strip()[-1500:]}")
    return done.stdout


def kubectl(*arguments: str, stdin: str | None = None, check: bool = True) -> str:
    return run("kubectl", *arguments, stdin=stdin, check=check)


def refused(manifest: str) -> str:
    """The API server's words about a manifest that it must refuse."""
    command = ["kubectl", "apply", "-f", "-"]
    done = subprocess.run(command, input=manifest, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 0:
        raise StepFailed(f"accepted:\n{manifest}")
    return done.stderr


def accepted(manifest: str) -> None:
    """The API server would take it; nothing is made. Raises StepFailed."""
    run("kubectl", "apply", "--dry-run=server", "-f", "-", stdin=manifest)


def get(kind: str, name: str, namespace: str) -> dict[str, Any]:
    """A live object; empty when there is none."""
    text = kubectl("-n", namespace, "get", kind, name, "-o", "json", "--ignore-not-found")
    found: dict[str, Any] = json.loads(text) if text.strip() else {}
    return found


def items(kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
    more = ["-l", selector] if selector else []
    found: list[dict[str, Any]] = json.loads(kubectl("-n", namespace, "get", kind, "-o", "json", *more))["items"]
    return found


def wait_for(what: str, condition: Callable[[], object], timeout_s: float = 60, every_s: float = 0.25) -> float:
    """Until it holds; the seconds that took. Raises StepFailed, with the last value in its words."""
    timeout_s = patient(timeout_s)
    began = time.monotonic()
    value: object = None
    while time.monotonic() - began < timeout_s:
        value = condition()
        if value:
            return time.monotonic() - began
        time.sleep(every_s)
    raise StepFailed(f"{what} did not happen in {timeout_s:.0f} s; last seen: {value!r}")
