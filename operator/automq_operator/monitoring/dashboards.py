"""Pure: Grafana dashboards as JSON models; the chart ships each as a ConfigMap.

A panel is a title, a unit, what it is for, and queries with their legends. Queries are over `$namespace`, `$cluster`
and `$pod`, which Grafana takes from the labels that the chart's PodMonitor gives brokers.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

PANEL_HEIGHT: Final = 8
PANELS_A_ROW: Final = 3
WIDTH: Final = 24
MONTH_S: Final = 2_592_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture."""

    title: str
    unit: str
    """Grafana's word for it."""
    about: str
    queries: tuple[tuple[str, str], ...]
    """(PromQL, legend)."""
    kind: str = "timeseries"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One page."""

    uid: str
    title: str
    panels: tuple[Panel, ...]
    constants: tuple[tuple[str, str, str], ...] = ()
    """(name, label, value) of numbers that its reader may change."""


_OF_CLUSTER: Final = 'namespace=~"$namespace", cluster=~"$cluster"'
_OF_POD: Final = f'{_OF_CLUSTER}, pod=~"$pod"'
_RATE: Final = "$__rate_interval"


def _rate(metric: str, by: str = "", more: str = "", of: str = _OF_CLUSTER) -> str:
    inner = f"rate({metric}{{{of}{', ' + more if more else ''}}}[{_RATE}])"
    return f"sum by ({by}) ({inner})" if by else f"sum({inner})"


def _quantile(share: float, metric: str, *, of: str, by: str = "", more: str = "") -> str:
    groups = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', groups, more, of)})"


def _sum(metric: str, by: str = "", of: str = _OF_CLUSTER) -> str:
    return f"sum by ({by}) ({metric}{{{of}}})" if by else f"sum({metric}{{{of}}})"


def _max(metric: str, by: str = "", of: str = _OF_CLUSTER) -> str:
    return f"max by ({by}) ({metric}{{{of}}})" if by else f"max({metric}{{{of}}})"


def _shares(part: str, whole: str, by: str) -> str:
    return f"{_sum(part, by, _OF_POD)} / {_sum(whole, by, _OF_POD)}"


def _cost(operations: str, price: str) -> str:
    """Of a month at the rate of the last hour; `price` is that of a thousand."""
    return f"sum(rate(automq_store_requests_total{{{_OF_CLUSTER}, {operations}}}[1h])) * {MONTH_S} / 1000 * {price}"


OVERVIEW: Final = Dashboard(
    uid="automq-overview",
    title="AutoMQ / Overview",
    panels=(
        Panel(
            title="Brokers",
            unit="short",
            about="Wanted and serving, as the operator counts them.",
            queries=((_sum("automq_cluster_brokers", "cluster, state"), "{{cluster}} {{state}}"),),
        ),
        Panel(
            title="Produced",
            unit="Bps",
            about="Bytes of records that came in.",
            queries=((_rate("automq_topic_in_bytes_total", "cluster"), "{{cluster}}"),),
        ),
        Panel(
            title="Fetched",
            unit="Bps",
            about="Bytes of records that went out.",
            queries=((_rate("automq_topic_out_bytes_total", "cluster"), "{{cluster}}"),),
        ),
        Panel(
            title="Produce, p50 and p99",
            unit="s",
            about="From parsed request to acknowledgement.",
            queries=tuple(
                (
                    _quantile(share, "automq_request_seconds", of=_OF_CLUSTER, by="cluster", more='api="Produce"'),
                    f"{{{{cluster}}}} p{share * 100:.0f}",
                )
                for share in (0.5, 0.99)
            ),
        ),
        Panel(
            title="Records in",
            unit="cps",
            about="Records a second, by topic, the ten largest.",
            queries=((f"topk(10, {_rate('automq_topic_in_records_total', 'topic')})", "{{topic}}"),),
        ),
        Panel(
            title="Errors",
            unit="cps",
            about="Error codes in answers, by API. NOT_LEADER and the like are normal.",
            queries=((f"{_rate('automq_request_errors_total', 'api, error')} > 0", "{{api}} {{error}}"),),
        ),
        Panel(
            title="Consumer lag",
            unit="short",
            about="Records behind, by group, the ten largest.",
            queries=((f"topk(10, {_sum('automq_group_lag', 'group')})", "{{group}}"),),
        ),
        Panel(
            title="Connections",
            unit="short",
            about="Open, by listener.",
            queries=((_sum("automq_connections", "listener"), "{{listener}}"),),
        ),
        Panel(
            title="Topics and partitions",
            unit="short",
            about="What the cluster serves.",
            queries=((_max("automq_topics"), "topics"), (_sum("automq_open_partitions"), "partitions")),
        ),
        Panel(
            title="The store fails for",
            unit="s",
            about="0 while everything works.",
            queries=((_max("automq_store_failing_seconds", "cluster, ability"), "{{cluster}} {{ability}}"),),
        ),
        Panel(
            title="Damage",
            unit="short",
            about="Keys that are missing or do not decode, partitions set apart.",
            queries=(
                (_max("automq_damaged_keys", "cluster"), "{{cluster}} keys"),
                (_max("automq_metadata_damaged_keys", "cluster"), "{{cluster}} metadata"),
                (_sum("automq_quarantined_partitions", "cluster"), "{{cluster}} partitions"),
            ),
        ),
        Panel(
            title="Balance",
            unit="short",
            about="What each broker carries, relative to the mean: bytes and CPU, in an idle cluster partitions.",
            queries=((_max("automq_balancer_share", "cluster, broker"), "{{cluster}} {{broker}}"),),
        ),
        Panel(
            title="Moves of the balancer",
            unit="short",
            about="Decided in a minute, and under way.",
            queries=(
                (f"60 * {_rate('automq_balancer_moves_total', 'cluster')}", "{{cluster}} a minute"),
                (_sum("automq_balancer_moves_under_way", "cluster"), "{{cluster}} under way"),
            ),
        ),
        Panel(
            title="Read in the same zone and in another",
            unit="Bps",
            about="Bytes to consumers whose zone is known.",
            queries=((_rate("automq_zone_bytes_total", "zone"), "{{zone}}"),),
        ),
        Panel(
            title="Operator",
            unit="cps",
            about="Passes over clusters by outcome, and what the API server refused.",
            queries=(
                (f"sum by (result) (rate(automq_operator_reconcile_total[{_RATE}]))", "{{result}}"),
                (f"sum by (kind, code) (rate(automq_operator_refused_total[{_RATE}])) > 0", "{{kind}} {{code}}"),
            ),
        ),
    ),
)

BROKER: Final = Dashboard(
    uid="automq-broker",
    title="AutoMQ / Broker",
    panels=(
        Panel(
            title="Ready",
            unit="short",
            about="1 while it serves.",
            queries=((_max("automq_ready", "pod", _OF_POD), "{{pod}}"),),
        ),
        Panel(
            title="State",
            unit="short",
            about="What it does, and why it waits.",
            queries=(
                (f"{_max('automq_state', 'pod, state', _OF_POD)} == 1", "{{pod}} {{state}}"),
                (f"{_max('automq_reason', 'pod, reason', _OF_POD)} == 1", "{{pod}} {{reason}}"),
            ),
        ),
        Panel(
            title="CPU",
            unit="percentunit",
            about="Of one core; a broker uses one.",
            queries=((_rate("process_cpu_seconds_total", "pod", of=_OF_POD), "{{pod}}"),),
        ),
        Panel(
            title="Resident memory",
            unit="bytes",
            about="Of the process.",
            queries=((_max("process_resident_memory_bytes", "pod", _OF_POD), "{{pod}}"),),
        ),
        Panel(
            title="Memory by account",
            unit="bytes",
            about="What holds bytes, by account.",
            queries=((_sum("automq_memory_bytes", "account", _OF_POD), "{{account}}"),),
        ),
        Panel(
            title="Memory, share of the limit",
            unit="percentunit",
            about="Caches fill theirs by design.",
            queries=((_shares("automq_memory_bytes", "automq_memory_limit_bytes", "account"), "{{account}}"),),
        ),
        Panel(
            title="Event loop, p99 of lag",
            unit="s",
            about="How late it comes to a timer.",
            queries=((_quantile(0.99, "automq_event_loop_lag_seconds", of=_OF_POD, by="pod"), "{{pod}}"),),
        ),
        Panel(
            title="Event loop, stalls",
            unit="cps",
            about="Times that it stood still for more than 0.1 s.",
            queries=((_rate("automq_event_loop_stalls_total", "pod", of=_OF_POD), "{{pod}}"),),
        ),
        Panel(
            title="Requests",
            unit="reqps",
            about="By API.",
            queries=((_rate("automq_request_seconds_count", "api", of=_OF_POD), "{{api}}"),),
        ),
        Panel(
            title="Where the time of requests goes",
            unit="s",
            about="Seconds a second, by API and phase.",
            queries=((_rate("automq_request_phase_seconds_total", "api, phase", of=_OF_POD), "{{api}} {{phase}}"),),
        ),
        Panel(
            title="Fetch, work p99",
            unit="s",
            about="Without what it waits for.",
            queries=(
                (
                    _quantile(
                        0.99,
                        "automq_data_request_phase_seconds",
                        of=_OF_POD,
                        by="pod",
                        more='api="Fetch", phase="worked"',
                    ),
                    "{{pod}}",
                ),
            ),
        ),
        Panel(
            title="Reads by source",
            unit="cps",
            about="From memory, or from objects.",
            queries=((_rate("automq_fetch_reads_total", "source", of=_OF_POD), "{{source}}"),),
        ),
        Panel(
            title="Network",
            unit="Bps",
            about="To and from clients.",
            queries=(
                (_rate("automq_network_in_bytes_total", "pod", of=_OF_POD), "{{pod}} in"),
                (_rate("automq_network_out_bytes_total", "pod", of=_OF_POD), "{{pod}} out"),
            ),
        ),
        Panel(
            title="Block cache, share of hits",
            unit="percentunit",
            about="Of reads that are not in the log cache.",
            queries=(
                (
                    f"{_rate('automq_block_cache_hits_total', 'pod', of=_OF_POD)} / "
                    f"({_rate('automq_block_cache_hits_total', 'pod', of=_OF_POD)} + "
                    f"{_rate('automq_block_cache_misses_total', 'pod', of=_OF_POD)})",
                    "{{pod}}",
                ),
            ),
        ),
        Panel(
            title="Groups",
            unit="short",
            about="By state.",
            queries=((_sum("automq_groups", "state", _OF_POD), "{{state}}"),),
        ),
    ),
)

_WRITES: Final = 'operation=~"PutObject|CreateMultipartUpload|UploadPart|CompleteMultipartUpload|ListObjectsV2"'
_READS: Final = 'operation=~"GetObject|HeadObject"'

STORAGE: Final = Dashboard(
    uid="automq-storage",
    title="AutoMQ / Storage and cost",
    constants=(
        ("put_price", "Price of 1,000 PUT, POST and LIST", "0.005"),
        ("get_price", "Price of 1,000 GET and HEAD", "0.0004"),
    ),
    panels=(
        Panel(
            title="WAL, PUT p50 and p99",
            unit="s",
            about="What an acknowledgement waits for.",
            queries=tuple(
                (_quantile(share, "automq_wal_put_seconds", of=_OF_CLUSTER), f"p{share * 100:.0f}")
                for share in (0.5, 0.99)
            ),
        ),
        Panel(
            title="WAL, slots",
            unit="cps",
            about="Objects a second.",
            queries=((_rate("automq_wal_slots_total", "pod"), "{{pod}}"),),
        ),
        Panel(
            title="Not uploaded",
            unit="bytes",
            about="What a restart would have to read.",
            queries=((_sum("automq_not_uploaded_bytes", "pod"), "{{pod}}"),),
        ),
        Panel(
            title="Requests by purpose",
            unit="reqps",
            about="What the store is asked, and for what.",
            queries=(
                (_rate("automq_store_requests_total", "operation, purpose") + " > 0", "{{operation}} {{purpose}}"),
            ),
        ),
        Panel(
            title="Requests that failed",
            unit="reqps",
            about="By outcome; some refusals are normal: a slot that is taken.",
            queries=(
                (
                    _rate("automq_store_requests_total", "operation, outcome", 'outcome!="success"') + " > 0",
                    "{{operation}} {{outcome}}",
                ),
            ),
        ),
        Panel(
            title="Requests, p99",
            unit="s",
            about="By operation.",
            queries=(
                (_quantile(0.99, "automq_store_request_seconds", of=_OF_CLUSTER, by="operation"), "{{operation}}"),
            ),
        ),
        Panel(
            title="Bytes to and from the store",
            unit="Bps",
            about="By purpose.",
            queries=(
                (_rate("automq_store_sent_bytes_total", "purpose") + " > 0", "sent, {{purpose}}"),
                (_rate("automq_store_received_bytes_total", "purpose") + " > 0", "received, {{purpose}}"),
            ),
        ),
        Panel(
            title="Objects",
            unit="short",
            about="Committed, prepared, to be deleted.",
            queries=((_max("automq_objects", "state"), "{{state}}"),),
        ),
        Panel(
            title="Compaction",
            unit="Bps",
            about="Bytes that it replaced and wrote.",
            queries=(
                (_rate("automq_compaction_read_bytes_total"), "replaced"),
                (_rate("automq_compaction_written_bytes_total"), "written"),
            ),
        ),
        Panel(
            title="Requests for each GB produced",
            unit="short",
            about="Over an hour.",
            kind="stat",
            queries=(
                (
                    f"sum(increase(automq_store_requests_total{{{_OF_CLUSTER}}}[1h])) / "
                    f"(sum(increase(automq_topic_in_bytes_total{{{_OF_CLUSTER}}}[1h])) / 1e9)",
                    "requests",
                ),
            ),
        ),
        Panel(
            title="Cost of requests, a month",
            unit="currencyUSD",
            about="At the rate of the last hour and these prices.",
            kind="stat",
            queries=(
                (_cost(_WRITES, "$put_price"), "PUT, POST, LIST"),
                (_cost(_READS, "$get_price"), "GET, HEAD"),
            ),
        ),
        Panel(
            title="Written for each byte produced",
            unit="short",
            about="Of everything that is written, over an hour.",
            kind="stat",
            queries=(
                (
                    f"sum(increase(automq_store_sent_bytes_total{{{_OF_CLUSTER}}}[1h])) / "
                    f"sum(increase(automq_topic_in_bytes_total{{{_OF_CLUSTER}}}[1h]))",
                    "times",
                ),
            ),
        ),
    ),
)

DASHBOARDS: Final = (OVERVIEW, BROKER, STORAGE)


def to_json(dashboard: Dashboard) -> str:
    """As Grafana imports it."""
    panels = [_panel(number, panel) for number, panel in enumerate(dashboard.panels)]
    model = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["automq"],
        "editable": True,
        "refresh": "30s",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [*_variables(), *(_constant(*constant) for constant in dashboard.constants)]},
        "panels": panels,
    }
    return json.dumps(model, indent=1) + "\n"


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    width = WIDTH // PANELS_A_ROW
    row, column = divmod(number, PANELS_A_ROW)
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"h": PANEL_HEIGHT, "w": width, "x": column * width, "y": row * PANEL_HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {} if panel.kind == "stat" else {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


def _variables() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
    narrower = ""
    for name in ("namespace", "cluster", "pod"):
        found.append({
            "name": name,
            "type": "query",
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "query": f"label_values(automq_ready{{{narrower}}}, {name})",
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        })  # fmt: skip
        narrower += f'{", " if narrower else ""}{name}=~"${name}"'
    return found


def _constant(name: str, label: str, value: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "textbox",
        "query": value,
        "current": {"text": value, "value": value},
    }
