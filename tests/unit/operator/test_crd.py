"""The committed CRD is the one that the models make; it is small, and every rule names its field."""

import pathlib
from typing import Any

import pytest
import yaml

from automq_operator import api
from automq_operator.catalogue import CLUSTER, TOPIC
from automq_operator.crd import custom_resource_definition
from automq_operator.generate import crd_files
from tests.e2e import bad_specs

ROOT = pathlib.Path(__file__).parents[3]


@pytest.mark.parametrize("file", crd_files())
def test_committed_crd_is_up_to_date(file: str) -> None:
    assert (ROOT / file).read_text() == crd_files()[file], "run make crds"


def test_crd_is_small_enough_for_client_side_apply() -> None:
    assert max(map(len, crd_files().values())) < 100_000


def test_every_rule_belongs_to_a_schema() -> None:
    schema = custom_resource_definition(CLUSTER)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path in CLUSTER.rules:
        here = schema
        for step in path:
            here = here["properties"][step]
        assert len(here["x-kubernetes-validations"]) == len(CLUSTER.rules[path])


def test_scale_subresource_has_a_selector() -> None:
    scale = custom_resource_definition(CLUSTER)["spec"]["versions"][0]["subresources"]["scale"]
    assert scale["labelSelectorPath"] == ".status.selector"


def test_only_the_bucket_is_required() -> None:
    schema = custom_resource_definition(CLUSTER)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][
        "spec"
    ]
    assert schema["required"] == ["storage"]
    assert schema["properties"]["storage"]["required"] == ["bucket"]
    assert api.parse_spec({"storage": {"bucket": "abc"}}).replicas == 1


def test_a_cluster_with_all_that_it_needs_takes_twenty_lines_at_most() -> None:
    text = (ROOT / "docs/kubernetes.md").read_text()
    example = text.split("```yaml\n")[1].split("```")[0]
    assert len(example.splitlines()) <= 20
    spec = api.parse_spec(yaml.safe_load(example)["spec"])
    assert spec.topology is not None
    assert spec.autoscaling is not None
    assert len(spec.listeners) == 2


def test_op2_every_rule_has_a_case_that_is_tried_on_a_real_api_server() -> None:
    cases = (*bad_specs.BAD_SPECS, *bad_specs.BAD_CHANGES, *bad_specs.BAD_ZONED_CHANGES)
    words = {word for _, _, word in cases} | {"metadata.name"}
    for rules in CLUSTER.rules.values():
        for _, message, _ in rules:
            assert message in bad_specs.UNPROVOKED or any(word in message for word in words), message


def test_every_rule_of_topics_has_a_case_that_is_tried_on_a_real_api_server() -> None:
    words = {case[-1] for case in (*bad_specs.BAD_TOPICS, *bad_specs.BAD_TOPIC_CHANGES)}
    for rules in TOPIC.rules.values():
        for _, message, _ in rules:
            assert any(word in message for word in words), message


def test_op2_name_of_a_resource_that_is_there_is_not_judged() -> None:
    rules = _schema()["x-kubernetes-validations"]
    (rule,) = [rule for rule in rules if rule.get("fieldPath") == ".metadata.name"]
    assert rule["optionalOldSelf"]
    assert rule["rule"].startswith("oldSelf.hasValue() || ")


def test_op2_bounds_of_node_ports_are_the_api_servers_alone() -> None:
    """A chart may have been told of another range; the operator must be able to read what was stored under it."""
    listeners = [{"name": "internal", "port": 9092}, {"name": "o", "port": 9094, "type": "NodePort", "nodePort": 20000}]
    assert api.parse_spec({"storage": {"bucket": "abc"}, "listeners": listeners}).listeners[1].node_port == 20000
    fields = _schema()["properties"]["spec"]["properties"]["listeners"]["items"]["properties"]
    assert (fields["nodePort"]["minimum"], fields["nodePort"]["maximum"]) == (30000, 32767)


def test_op2_no_field_of_a_pod_is_open_at_its_first_level() -> None:
    schema = _schema()["properties"]["spec"]["properties"]["template"]["properties"]["pod"]["properties"]["spec"]
    assert "x-kubernetes-preserve-unknown-fields" not in schema
    assert {"nodeSelector", "tolerations", "affinity", "imagePullSecrets", "priorityClassName"} <= set(
        schema["properties"]
    )


@pytest.mark.parametrize("spec", bad_specs.GOOD_SPECS)
def test_op2_what_the_api_server_accepts_the_operator_reads(spec: dict[str, object]) -> None:
    storage = {"bucket": "abc", **spec.get("storage", {})}  # type: ignore[dict-item]
    assert api.parse_spec({**spec, "storage": storage})


def test_kubectl_get_says_why() -> None:
    version = custom_resource_definition(CLUSTER)["spec"]["versions"][0]
    columns = {column["name"]: column for column in version["additionalPrinterColumns"]}
    assert columns["Reason"]["priority"] == 0
    assert columns["Message"]["jsonPath"] == ".status.conditions[?(@.type=='Ready')].message"


def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = custom_resource_definition(CLUSTER)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema
