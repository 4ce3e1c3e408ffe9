"""The committed CRD is the one that the models make; it is small, and every rule names its field."""

import pathlib

import pytest

from automq_operator import api
from automq_operator.catalogue import CLUSTER
from automq_operator.crd import custom_resource_definition
from automq_operator.generate import crd_files

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
