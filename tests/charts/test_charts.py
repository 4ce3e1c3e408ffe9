"""What the charts render, to the letter, and what they refuse. Needs helm on the PATH or in HELM."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest
import yaml

from tests.support import golden

ROOT = pathlib.Path(__file__).parents[2]
TESTBED_HOME = pathlib.Path(os.environ.get("TESTBED_HOME", pathlib.Path.home() / ".cache/testbed"))
FOUND = [*TESTBED_HOME.glob("kubernetes/*/bin/helm")]
BUCKET = "spec.storage.bucket=demo"
HELM = os.environ.get("HELM") or shutil.which("helm") or (str(FOUND[0]) if FOUND else None)

pytestmark = pytest.mark.skipif(HELM is None, reason="helm is not on this machine")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    return subprocess.run([HELM, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def render(chart: str, *arguments: str) -> str:
    done = helm("template", "release", f"charts/{chart}", "--namespace", "space", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("chart", "arguments"),
    [("automq-operator", []), ("automq-cluster", ["--set", BUCKET])],
)
def test_chart_passes_helm_lint(chart: str, arguments: list[str]) -> None:
    done = helm("lint", "--strict", f"charts/{chart}", *arguments)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("defaults", []),
        ("namespaces", ["--set", "namespaces={one,two}"]),
        ("everything", ["--values", "tests/charts/everything.yaml"]),
        ("monitored", ["--set", "serviceMonitor.enabled=true", "--set", "image.repository=registry.example/automq"]),
    ],
)
def test_operator_chart(name: str, arguments: list[str]) -> None:
    golden.check_text(
        f"charts/operator-{name}.yaml", render("automq-operator", "--set", "crds.install=false", *arguments)
    )


def test_cluster_chart() -> None:
    arguments = ["--set", "spec.storage.bucket=demo", "--set", "spec.config.num\\.partitions=3"]
    golden.check_text("charts/cluster.yaml", render("automq-cluster", *arguments))


def test_crd_comes_with_the_operator() -> None:
    kinds = [document["kind"] for document in yaml.safe_load_all(render("automq-operator")) if document]
    assert "CustomResourceDefinition" in kinds


@pytest.mark.parametrize(("chart", "arguments"), [("automq-operator", []), ("automq-cluster", ["--set", BUCKET])])
def test_op1_helm_keeps_every_crd_that_a_chart_renders(chart: str, arguments: list[str]) -> None:
    for document in yaml.safe_load_all(render(chart, "--include-crds", *arguments)):
        if document and document["kind"] == "CustomResourceDefinition":
            assert document["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", document["metadata"]


def test_op1_every_committed_crd_is_kept_by_helm() -> None:
    files = [*ROOT.glob("crds/*.yaml"), *ROOT.glob("charts/*/files/*.yaml"), *ROOT.glob("charts/*/crds/*.yaml")]
    assert len(files) >= 2
    for file in files:
        metadata = yaml.safe_load(file.read_text())["metadata"]
        assert metadata["annotations"]["helm.sh/resource-policy"] == "keep", file


def test_op2_the_range_of_node_ports_can_be_another() -> None:
    text = render("automq-operator", "--set", "crds.nodePorts.from=20000", "--set", "crds.nodePorts.to=22767")
    for document in yaml.safe_load_all(text):
        if document["kind"] == "CustomResourceDefinition":
            spec = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
            node_port = spec["properties"]["listeners"]["items"]["properties"]["nodePort"]
            assert (node_port["minimum"], node_port["maximum"]) == (20000, 22767)
            break
    else:
        pytest.fail("no CRD")


def test_no_permission_is_a_star_and_none_is_for_secrets() -> None:
    for arguments in ([], ["--set", "namespaces={one}"]):
        for document in yaml.safe_load_all(render("automq-operator", *arguments)):
            for rule in (document or {}).get("rules", []):
                assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
                assert "secrets" not in rule["resources"]


def test_schema_knows_every_value_and_no_other() -> None:
    for chart in ("automq-operator", "automq-cluster"):
        values = yaml.safe_load((ROOT / "charts" / chart / "values.yaml").read_text())
        schema = json.loads((ROOT / "charts" / chart / "values.schema.json").read_text())
        assert set(values) == set(schema["properties"]) - {"global"}


@pytest.mark.parametrize(
    ("chart", "argument", "named"),
    [
        ("automq-operator", "replicas=0", "replicas"),
        ("automq-operator", "logLevel=loud", "logLevel"),
        ("automq-operator", "monitoring.rules=perhaps", "rules"),
        ("automq-operator", "nonsense=1", "nonsense"),
        ("automq-operator", "image.digest=latest", "digest"),
        ("automq-operator", "imagePullSecrets={registry}", "imagePullSecrets"),
        ("automq-operator", "crds.nodePorts.from=0", "nodePorts"),
        ("automq-cluster", "spec.storage.bucket=", "bucket"),
    ],
)
def test_bad_values_are_refused_with_their_name(chart: str, argument: str, named: str) -> None:
    done = helm("template", "release", f"charts/{chart}", "--set", argument)
    assert done.returncode != 0
    assert named in done.stderr
