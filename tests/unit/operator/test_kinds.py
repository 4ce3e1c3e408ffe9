"""What the operator works with is in one table; the chart's permissions are what the table needs, and no more."""

import pathlib
import re
from typing import Any

import yaml

from automq_operator import api
from automq_operator.catalogue import RESOURCES
from automq_operator.kinds import CHILD_KINDS, KINDS, RESOURCE_KINDS, WATCHED_KINDS

TEMPLATES = pathlib.Path(__file__).parents[3] / "charts/automq-operator/templates"


def granted() -> dict[tuple[str, str], set[str]]:
    """(group, resource) -> verbs, of the rules for a namespace with clusters."""
    text = (TEMPLATES / "_helpers.tpl").read_text()
    (block,) = re.findall(r'define "automq-operator.rules" -}}\n(.*?){{- end', text, re.DOTALL)
    found: dict[tuple[str, str], set[str]] = {}
    rules: list[dict[str, Any]] = yaml.safe_load(block)
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def needed() -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {(api.GROUP, f"{api.PLURAL}/finalizers"): {"update"}}
    for kind, place in KINDS.items():
        key = (place.group, place.plural)
        if kind in RESOURCE_KINDS:
            found[key] = {"get", "list", "watch", "patch"}
            found[place.group, f"{place.plural}/status"] = {"get", "patch"}
        elif kind in CHILD_KINDS:
            found[key] = {"get", "list", "watch", "create", "patch", "delete"}
        elif kind == "Pod":
            found[key] = {"get", "list", "watch", "patch", "delete"}
        elif kind == "Event":
            found[key] = {"create"}
    return found


def test_the_chart_grants_what_the_table_needs() -> None:
    assert granted() == needed()


def test_every_custom_resource_has_its_place() -> None:
    assert [resource.kind for resource in RESOURCES] == list(RESOURCE_KINDS)
    for resource in RESOURCES:
        assert KINDS[resource.kind].plural == resource.plural


def test_everything_watched_has_its_place() -> None:
    assert set(WATCHED_KINDS) <= set(KINDS)
