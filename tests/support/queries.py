"""Queries of alerts and dashboards taken apart as far as tests need: which metrics, and which of their labels."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from automq_operator import telemetry
from automq_operator.monitoring.alerts import ALERTS
from automq_operator.monitoring.dashboards import DASHBOARDS
from tests.support.generate_docs import DOCS

GIVEN = frozenset({"namespace", "cluster", "pod"})
"""Labels of brokers' series that come with the scrape."""

_SERIES = re.compile(r"\b((?:automq|process)_[a-z_]+)(?:\{([^}]*)\})?")
_BY = re.compile(r"\bby \(([^)]*)\)")
_LABEL = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
_LEGEND = re.compile(r"\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}")


def all_queries() -> Iterator[tuple[str, str, str]]:
    """(where, query, legend or summary)."""
    for alert in ALERTS:
        yield alert.name, alert.query, alert.summary
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels:
            for query, legend in panel.queries:
                yield f"{dashboard.uid}: {panel.title}", query, legend


def metrics_that_exist() -> dict[str, frozenset[str]]:
    """Name of every series -> its labels, from docs/metrics.md and the operator's registry."""
    found: dict[str, frozenset[str]] = {}
    row = re.compile(r"^\| `((?:automq|process)_[a-z_]+)` \| (\w+) \| ([^|]*) \|", re.MULTILINE)
    for name, kind, labels in row.findall((DOCS / "metrics.md").read_text()):
        _add(found, name, kind, re.findall(r"`([a-z_]+)`", labels), GIVEN)
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes"):
        found[name] = GIVEN
    for family in telemetry.REGISTRY.collect():
        labels = getattr(telemetry.REGISTRY._names_to_collectors.get(family.name), "_labelnames", ())
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if name.startswith("automq_"):
            _add(found, name, family.type, labels, frozenset())
    return found


def _add(found: dict[str, frozenset[str]], name: str, kind: str, labels: list[str], given: frozenset[str]) -> None:
    have = frozenset(labels) | given
    if kind == "histogram":
        found |= {f"{name}_bucket": have | {"le"}, f"{name}_count": have, f"{name}_sum": have}
    else:
        found[name] = have


def series(query: str) -> list[tuple[str, list[str]]]:
    """(metric, labels that it is selected by) of a query."""
    return [(name, _LABEL.findall(matchers)) for name, matchers in _SERIES.findall(query)]


def adapter_query(rule: Mapping[str, Any], matchers: str) -> str:
    """The query of a rule of prometheus-adapter, filled in as that does for pods."""
    query: str = rule["metricsQuery"]
    for name, text in (("Series", rule["name"]["matches"]), ("LabelMatchers", matchers), ("GroupBy", "pod")):
        assert f"<<.{name}>>" in query, name
        query = query.replace(f"<<.{name}>>", text)
    return query


def grouped_by(query: str) -> set[str]:
    """Labels that the query groups by."""
    return {label.strip() for labels in _BY.findall(query) for label in labels.split(",")}


def labels_in(text: str) -> set[str]:
    """Labels that a legend or a summary shows."""
    return set(_LEGEND.findall(text))
