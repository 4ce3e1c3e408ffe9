"""The examples of docs/kubernetes.md for autoscaling by metrics parse, agree with each other, and name what exists."""

import pathlib
from typing import Any

import pytest
import yaml

from automq_operator import api
from automq_operator.catalogue import CLUSTER
from tests.support.queries import adapter_query, grouped_by, metrics_that_exist, series

DOCUMENT = pathlib.Path(__file__).parents[4] / "docs/kubernetes.md"
EXAMPLES = [yaml.safe_load(part.split("```")[0]) for part in DOCUMENT.read_text().split("```yaml\n")[1:]]
SPECS = [example["spec"] for example in EXAMPLES if "spec" in example and example.get("kind") in (None, api.KIND)]


def _only(key: str) -> Any:
    (found,) = [example for example in EXAMPLES if key in example]
    return found


@pytest.mark.parametrize("spec", SPECS)
def test_every_spec_of_a_cluster_is_one(spec: dict[str, Any]) -> None:
    """An unknown field would be refused by the API server, and is passed over by the operator."""
    parsed = api.parse_spec({"storage": {"bucket": "demo-kafka"}, **spec})
    assert set(spec) <= set(api.to_yaml_dict(parsed))


def test_the_rule_for_prometheus_adapter_makes_the_metric_that_the_cluster_scales_by() -> None:
    (rule,) = _only("rules")["rules"]
    metric = rule["name"]["matches"]
    assert metric in metrics_that_exist()
    assert rule["seriesQuery"].startswith(metric)
    named = [metric["pods"]["metric"]["name"] for spec in SPECS for metric in _metrics(spec)]
    assert named == [rule["name"]["as"]]


def test_the_query_of_the_rule_is_about_the_pods_that_the_adapter_asks_for() -> None:
    (rule,) = _only("rules")["rules"]
    query = adapter_query(rule, 'namespace="team",pod=~"a|b"')
    assert "<<" not in query
    ((metric, labels),) = series(query)
    assert set(labels) == {"namespace", "pod"}
    assert set(labels) <= metrics_that_exist()[metric]
    assert grouped_by(query) == {"pod"}
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}
    assert all(f'{label}!=""' in rule["seriesQuery"] for label in labels)


def test_the_example_for_keda_scales_the_resource_by_a_metric_that_exists() -> None:
    (scaled,) = [example for example in EXAMPLES if example.get("kind") == "ScaledObject"]
    target = scaled["spec"]["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"]) == (f"{api.GROUP}/{api.VERSION}", CLUSTER.kind)
    (trigger,) = scaled["spec"]["triggers"]
    ((metric, labels),) = series(trigger["metadata"]["query"])
    assert set(labels) <= metrics_that_exist()[metric]


def _metrics(spec: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spec.get("autoscaling", {}).get("metrics", [])
    return found
