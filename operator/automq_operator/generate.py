"""What is made from the models and the reasons: `make crds` writes the CRD, `make docs` the reference's tables."""

import pathlib
import sys
from typing import Any, Final

import yaml

from automq_operator import api
from automq_operator.catalogue import RESOURCES
from automq_operator.crd import custom_resource_definition
from automq_operator.monitoring.alerts import rule_group
from automq_operator.monitoring.dashboards import DASHBOARDS, to_json
from automq_operator.reasons import MEANINGS
from automq_operator.resource import Resource

HEADER: Final = "# Made by `make crds` from operator/automq_operator/api.py; do not edit.\n"


MONITORING_HEADER: Final = "# Made by `make crds` from operator/automq_operator/monitoring; do not edit.\n"
CHART_FILES: Final = "charts/automq-operator/files"
FOLDERS: Final = ("crds", CHART_FILES)  # Helm cannot read outside a chart


def crd_files() -> dict[str, str]:
    """Every CRD as it is committed, by path from the repository's root."""
    texts = {f"{resource.plural}.{api.GROUP}.yaml": _crd_text(resource) for resource in RESOURCES}
    return {f"{folder}/{name}": text for folder in FOLDERS for name, text in texts.items()}


def chart_files() -> dict[str, str]:
    """What the chart has of alerts and dashboards, by path from the repository's root."""
    rules: str = yaml.safe_dump(rule_group(), sort_keys=False, width=120)
    found = {f"{CHART_FILES}/monitoring/rules.yaml": MONITORING_HEADER + rules}
    return found | {f"{CHART_FILES}/monitoring/{item.uid}.json": to_json(item) for item in DASHBOARDS}


def _crd_text(resource: Resource) -> str:
    text: str = yaml.safe_dump(custom_resource_definition(resource), sort_keys=False, width=120)
    return HEADER + text


def field_table(resource: Resource, part: str) -> str:
    """Markdown: every field of `spec` or `status` with its type, default and meaning."""
    versions = custom_resource_definition(resource)["spec"]["versions"]
    schema = versions[0]["schema"]["openAPIV3Schema"]["properties"][part]
    lines = ["| field | type | default | |", "|---|---|---|---|"]
    _rows(schema, part, lines)
    return "\n".join(lines)


def _rows(schema: dict[str, Any], path: str, lines: list[str]) -> None:
    required = set(schema.get("required", []))
    for name, child in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        shown = child.get(
            "default", "required" if name in required and path != "spec" or here == "spec.storage" else ""
        )
        default = f"`{shown}`" if shown not in ("", "required") and not isinstance(shown, dict) else shown
        kind = " \\| ".join(child["enum"]) if "enum" in child else child.get("type", "")
        text = " ".join(str(child.get("description", "")).split())
        lines.append(f"| `{here}` | {kind} | {default if not isinstance(default, dict) else ''} | {text} |")
        _rows(child, here, lines)
        if child.get("type") == "array":
            _rows(child["items"], f"{here}[]", lines)


def reason_table() -> str:
    """Markdown: every condition with every reason it can have, and what to do."""
    lines = ["| condition | reason | meaning, and what to do |", "|---|---|---|"]
    lines += [f"| {condition} | `{reason}` | {text} |" for (condition, reason), text in MEANINGS.items()]
    return "\n".join(lines)


def main() -> None:
    """Write CRDs, alerts and dashboards under the folder named, the repository's root."""
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for name, text in (crd_files() | chart_files()).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
