"""Pure: the alerts. The PrometheusRule of the chart and docs/runbook.md are made from this list.

Series of brokers carry `namespace`, `cluster` and `pod`, which the chart's PodMonitor gives them; those of the operator
have `namespace` and `cluster` of their own.
"""

from dataclasses import dataclass
from typing import Any, Final

RUNBOOK: Final = "docs/runbook.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert and what somebody who is woken by it needs to know."""

    name: str
    query: str
    for_: str
    severity: str
    """critical: clients are not served or data are in danger. warning: it will become so, or something is broken."""
    summary: str
    meaning: str
    check: str
    """Where to look, as commands or queries."""
    remedy: str


_P99: Final = "histogram_quantile(0.99, sum by (namespace, cluster, pod, le) (rate({}[5m])))"

ALERTS: Final = (
    Alert(
        name="AutoMQBrokersMissing",
        query='sum by (namespace, cluster) (automq_cluster_brokers{state="serving"}) '
        '< sum by (namespace, cluster) (automq_cluster_brokers{state="wanted"})',
        for_="2m",
        severity="critical",
        summary="{{ $labels.namespace }}/{{ $labels.cluster }} has fewer serving brokers than it wants",
        meaning="The operator counts fewer brokers that serve than `spec.replicas`. With one broker nobody is served.",
        check="`kubectl -n NAMESPACE describe amq CLUSTER`: condition Ready has the reason, Progressing what is done.",
        remedy="The table of reasons in docs/kubernetes.md names what to do for each.",
    ),
    Alert(
        name="AutoMQBrokerNotReady",
        query="max by (namespace, cluster, pod) (automq_ready) == 0",
        for_="2m",
        severity="warning",
        summary="{{ $labels.namespace }}/{{ $labels.pod }} does not serve",
        meaning="A broker runs and says of itself that it does not serve. Its own word, so it can be reached.",
        check="`automq_reason == 1` of the pod; `kubectl -n NAMESPACE logs POD`.",
        remedy="For a reason of the store see AutoMQStoreFailing; Recovering with much log takes time and CPU.",
    ),
    Alert(
        name="AutoMQStoreFailing",
        query="max by (namespace, cluster, ability) (automq_store_failing_seconds) > 30",
        for_="0m",
        severity="critical",
        summary="The store of {{ $labels.namespace }}/{{ $labels.cluster }} fails: {{ $labels.ability }}",
        meaning="For half a minute nothing of this ability has succeeded. Without `create` nothing is acknowledged, "
        "without `get` old records cannot be read; nothing that was acknowledged is lost.",
        check='`sum by (operation, outcome) (rate(automq_store_requests_total{outcome!="success"}[5m]))`; condition '
        "StorageReady of the resource.",
        remedy="`no_answer`: network, DNS, the store itself. `refused`: credentials, the policy of the bucket, quota. "
        "It heals by itself; no restart is needed.",
    ),
    Alert(
        name="AutoMQStoreSlow",
        query=f"{_P99.format('automq_wal_put_seconds_bucket')} > 1",
        for_="10m",
        severity="warning",
        summary="{{ $labels.namespace }}/{{ $labels.pod }}: one of a hundred WAL slots takes more than a second",
        meaning="Every acknowledgement is one such PUT, so producers wait as long.",
        check="`automq_store_request_seconds` by operation; the store's own metrics; whether the bucket is in the "
        "region of the brokers.",
        remedy="A store of lower latency, or the store's throttling: spread over prefixes takes it minutes.",
    ),
    Alert(
        name="AutoMQProduceSlow",
        query="histogram_quantile(0.99, sum by (namespace, cluster, pod, le) "
        '(rate(automq_request_seconds_bucket{api="Produce"}[5m]))) > 2',
        for_="10m",
        severity="warning",
        summary="{{ $labels.namespace }}/{{ $labels.pod }}: one of a hundred produce requests takes more than 2 s",
        meaning="Producers wait, and those with short deadlines give up.",
        check='`sum by (phase) (rate(automq_request_phase_seconds_total{api="Produce"}[5m]))`: `waited` is the store, '
        "`queued` and `worked` are the broker.",
        remedy="The store: AutoMQStoreSlow. The broker: more CPU, or more brokers.",
    ),
    Alert(
        name="AutoMQServerErrors",
        query="sum by (namespace, cluster, api, error) (rate(automq_request_errors_total"
        '{error=~"UNKNOWN_SERVER_ERROR|KAFKA_STORAGE_ERROR|CORRUPT_MESSAGE"}[5m])) > 0',
        for_="5m",
        severity="warning",
        summary="{{ $labels.namespace }}/{{ $labels.cluster }} answers {{ $labels.api }} with {{ $labels.error }}",
        meaning="UNKNOWN_SERVER_ERROR is a bug or a broken plug-in; KAFKA_STORAGE_ERROR is damage or a store that "
        "fails; CORRUPT_MESSAGE is a client or a network that damages records.",
        check="The broker's log has one line for each, with topic and partition.",
        remedy="Report bugs with the traceback. For damage see AutoMQDataDamaged.",
    ),
    Alert(
        name="AutoMQDataDamaged",
        query="max by (namespace, cluster) (automq_damaged_keys) > 0 "
        "or max by (namespace, cluster) (automq_metadata_damaged_keys) > 0 "
        "or max by (namespace, cluster) (automq_quarantined_partitions) > 0",
        for_="0m",
        severity="critical",
        summary="{{ $labels.namespace }}/{{ $labels.cluster }}: something in the bucket is missing or does not decode",
        meaning="Objects were changed or removed by somebody else, or the store lost them. Nothing more is deleted on "
        "the strength of it; partitions that are concerned take no records.",
        check="`automq fsck STORE --deep` names keys, partitions and offsets, and changes nothing.",
        remedy="Restore the keys from versions or replicas of the bucket. Only `automq repair` gives data up.",
    ),
    Alert(
        name="AutoMQUploadBehind",
        query="max by (namespace, cluster, pod) (automq_not_uploaded_age_seconds) > 1800",
        for_="5m",
        severity="warning",
        summary="{{ $labels.namespace }}/{{ $labels.pod }} has not uploaded for half an hour",
        meaning="Records are safe in the write-ahead log, which grows: a restart has all of it to read.",
        check="`automq_store_failing_seconds`, `automq_not_uploaded_bytes`, the broker's log.",
        remedy="Mend the store. When it answers the upload goes on by itself.",
    ),
    Alert(
        name="AutoMQEventLoopLate",
        query=f"{_P99.format('automq_event_loop_lag_seconds_bucket')} > 0.25",
        for_="10m",
        severity="warning",
        summary="The event loop of {{ $labels.namespace }}/{{ $labels.pod }} is late",
        meaning="The broker has more to do than its core can, or the kubelet throttles it: every request waits.",
        check="`rate(process_cpu_seconds_total[5m])` of the pod, `automq_event_loop_stalls_total`, CPU throttling.",
        remedy="No CPU limit below a core, a larger request, more brokers.",
    ),
    Alert(
        name="AutoMQOperatorDown",
        query="(sum(automq_operator_leader) or vector(0)) < 1",
        for_="2m",
        severity="critical",
        summary="No replica of the operator works",
        meaning="Brokers serve on. Nothing is rolled out, no broker of a lost node is replaced, no status is true.",
        check="`kubectl -n automq get pods,lease`; the log of the operator.",
        remedy="Mostly the API server or the operator's permissions; its log names the request that was refused.",
    ),
    Alert(
        name="AutoMQReconcileStuck",
        query="max by (namespace, cluster) "
        "(time() - automq_operator_reconcile_last_success_timestamp_seconds) > 600",
        for_="0m",
        severity="warning",
        summary="The operator does not get through with {{ $labels.namespace }}/{{ $labels.cluster }}",
        meaning="Ten minutes without a pass that ended well, while one a minute is usual.",
        check="`kubectl -n automq logs -l app.kubernetes.io/name=automq-operator --tail=-1 | grep CLUSTER`.",
        remedy="What the log names: an API server that does not answer, or a bug (see AutoMQOperatorBug).",
    ),
    Alert(
        name="AutoMQChildRefused",
        query="sum by (kind, code) (increase(automq_operator_refused_total[15m])) > 0",
        for_="5m",
        severity="warning",
        summary="The API server refuses the operator a {{ $labels.kind }} ({{ $labels.code }})",
        meaning="Something that a cluster consists of is not as it should be: a quota, a policy, a field of the pod. "
        "Code 0 is no answer.",
        check="`kubectl get amq -A -o wide`; condition Progressing with reason Refused has the API server's words.",
        remedy="Correct the spec, the quota or the policy; it is tried again by itself.",
    ),
    Alert(
        name="AutoMQOperatorBug",
        query="sum(increase(automq_operator_internal_errors_total[1h])) > 0",
        for_="0m",
        severity="warning",
        summary="The operator failed on a cluster in a way that nobody foresaw",
        meaning="A pass ended in a bug. Brokers are not touched; the cluster's condition Ready says InternalError.",
        check="The operator's log has the traceback, once.",
        remedy="Report it. A newer or older image of the operator may go on.",
    ),
)  # fmt: skip


def rule_group() -> dict[str, Any]:
    """The `spec` of the PrometheusRule."""
    return {"groups": [{"name": "automq", "rules": [_rule(alert) for alert in ALERTS]}]}


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.query,
        "for": alert.for_,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.meaning,
            "runbook": f"{RUNBOOK}#{alert.name.lower()}",
        },
    }


def runbook() -> str:
    """Markdown: a section an alert."""
    return "\n\n".join(
        f"### {alert.name}\n\n"
        f"{alert.severity}, after {alert.for_}: `{alert.query}`\n\n"
        f"- **Means.** {alert.meaning}\n- **Check.** {alert.check}\n- **Do.** {alert.remedy}"
        for alert in ALERTS
    )
