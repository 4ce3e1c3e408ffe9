"""Every query of an alert or a panel is about metrics and labels that exist."""

import json

import pytest

from automq_operator.monitoring.alerts import ALERTS, runbook
from automq_operator.monitoring.dashboards import DASHBOARDS, to_json
from tests.support.queries import all_queries, grouped_by, labels_in, metrics_that_exist, series

QUERIES = list(all_queries())
EXISTING = metrics_that_exist()


def _faults(query: str, shown: str) -> list[str]:
    found = []
    have: set[str] = set()
    for metric, selected in series(query):
        if metric not in EXISTING:
            found.append(f"no metric {metric}")
            continue
        have |= EXISTING[metric]
        found += [f"{metric} has no label {label}" for label in selected if label not in EXISTING[metric]]
        found += [f"{metric} has no label {label}" for label in grouped_by(query) if label not in EXISTING[metric]]
    kept = (grouped_by(query) or have) - {"le"}
    return found + [f"{label} is shown and not kept" for label in labels_in(shown) if label not in kept]


@pytest.mark.parametrize(("where", "query", "shown"), QUERIES, ids=[f"{n}-{item[0]}" for n, item in enumerate(QUERIES)])
def test_a_query_is_about_what_exists(where: str, query: str, shown: str) -> None:
    assert series(query), "a query of no metric"
    assert _faults(query, shown) == [], where


@pytest.mark.parametrize(
    ("query", "shown", "fault"),
    [
        ("automq_redy == 0", "", "no metric automq_redy"),
        ('automq_ready{topic="a"}', "", "automq_ready has no label topic"),
        ("sum by (pod, topic) (automq_ready)", "", "automq_ready has no label topic"),
        ("sum by (pod) (automq_ready)", "{{ $labels.cluster }}", "cluster is shown and not kept"),
        ("rate(automq_wal_put_seconds[5m])", "", "no metric automq_wal_put_seconds"),
        ("automq_operator_leader{pod=~'x'}", "", "automq_operator_leader has no label pod"),
    ],
)
def test_a_wrong_query_would_be_found(query: str, shown: str, fault: str) -> None:
    assert fault in _faults(query, shown)


def test_counters_are_looked_at_as_rates() -> None:
    for where, query, _ in QUERIES:
        for metric, _labels in series(query):
            if metric.endswith("_total"):
                assert f"rate({metric}" in query or f"increase({metric}" in query, (where, metric)


def test_every_alert_has_its_section_of_the_runbook_and_says_what_to_do() -> None:
    text = runbook()
    for alert in ALERTS:
        assert f"### {alert.name}\n" in text
        assert alert.severity in ("critical", "warning")
        assert min(len(part) for part in (alert.meaning, alert.check, alert.remedy)) > 30, alert.name
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda item: item.uid)
def test_panels_lie_beside_and_below_each_other(dashboard: object) -> None:
    model = json.loads(to_json(dashboard))  # type: ignore[arg-type]
    taken = set()
    for panel in model["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        taken |= {(x, place["y"]) for x in range(place["x"], place["x"] + place["w"])}
        assert panel["targets"], panel["title"]
    assert len(taken) == sum(panel["gridPos"]["w"] for panel in model["panels"])
    assert len({panel["id"] for panel in model["panels"]}) == len(model["panels"])


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda item: item.uid)
def test_every_variable_of_a_query_is_declared(dashboard: object) -> None:
    model = json.loads(to_json(dashboard))  # type: ignore[arg-type]
    declared = {item["name"] for item in model["templating"]["list"]} | {"__rate_interval"}
    for panel in model["panels"]:
        for target in panel["targets"]:
            used = {word.rstrip('",)]') for word in target["expr"].split("$")[1:]}
            used = {word.split('"')[0].split("]")[0].split(" ")[0].split(",")[0] for word in used}
            assert used <= declared, (panel["title"], used - declared)
