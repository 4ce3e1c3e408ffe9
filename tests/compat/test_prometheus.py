"""A real Prometheus scrapes a real broker and the operator's registry, takes the rules, and answers every query."""

import contextlib
import json
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client import start_http_server

from automq.testing import start_broker
from automq_operator import telemetry
from automq_operator.monitoring.dashboards import DASHBOARDS
from tests.support.process import ROOT
from tests.support.queries import adapter_query, all_queries, series

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not on this machine")

RULES = ROOT / "charts/automq-operator/files/monitoring/rules.yaml"
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: brokers
    static_configs:
      - {{targets: ["127.0.0.1:{broker}"], labels: {{namespace: team, cluster: demo, pod: demo-broker-0}}}}
  - job_name: operator
    honor_labels: true
    static_configs: [{{targets: ["127.0.0.1:{operator}"]}}]
"""
VARIABLES = {"$__rate_interval": "10s", "$namespace": "team", "$cluster": ".*", "$pod": ".*"}
# Nothing of the kind happens in these seconds, and their query leaves out what is zero.
SILENT = {
    "automq_reason",
    # A broker that is alone has nobody to share with.
    "automq_balancer_share",
    "automq-overview: Errors",
    "automq-overview: Operator",
    "automq-overview: Consumer lag",
    "automq-storage: Requests that failed",
}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Prometheus:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            body = json.load(answer)
        assert body["status"] == "success", body
        return body["data"]

    def samples(self, query: str) -> list[Any]:
        found: list[Any] = self.get("query", query=query)["result"]
        return found

    def until(self, query: str) -> None:
        """The query has an answer; nothing else is waited for."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self.samples(query):
                    return
            time.sleep(0.2)
        raise AssertionError(f"no answer to {query}")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    ports = {"broker": _free_port(), "operator": _free_port(), "web": _free_port()}
    _as_an_operator_at_work()
    server, thread = start_http_server(ports["operator"], "127.0.0.1", registry=telemetry.REGISTRY)
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=RULES, **ports))
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{ports['web']}",
    ]  # fmt: skip
    settings = {"automq.http.address": f"127.0.0.1:{ports['broker']}"}
    with start_broker(settings=settings) as broker, (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            found = Prometheus(ports["web"])
            found.until('rate(automq_ready{pod="demo-broker-0"}[10s])')
            broker.create_topic("queries")
            broker.produce("queries", [b"x" * 100])
            found.until('automq_topic_in_records_total{topic="queries"} == 1')  # a rate needs a value before
            broker.produce("queries", [b"x" * 100] * 199)
            assert len(broker.consume("queries")) == 200
            found.until('sum(rate(automq_topic_in_records_total{topic="queries"}[10s])) > 0')
            found.until("sum(rate(automq_store_sent_bytes_total[10s])) > 0")
            found.until("sum(rate(automq_block_cache_hits_total[10s])) >= 0")
            yield found
        finally:
            process.terminate()
            process.wait(30)
            server.shutdown()
            server.server_close()
            thread.join()


def _as_an_operator_at_work() -> None:
    telemetry.LEADER.set(1)
    telemetry.LAST_SUCCESS.labels("team", "demo").set(time.time())
    telemetry.RECONCILES.labels("team", "demo", "done").inc()
    telemetry.BROKERS.labels("team", "demo", "wanted").set(1)
    telemetry.BROKERS.labels("team", "demo", "serving").set(1)


def _filled(query: str) -> str:
    constants = {f"${name}": value for dashboard in DASHBOARDS for name, _, value in dashboard.constants}
    for name, value in (VARIABLES | constants).items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def test_every_query_of_a_panel_is_answered(prometheus: Prometheus) -> None:
    empty = []
    for where, query, _ in all_queries():
        if ": " not in where:
            continue
        silent = where in SILENT or any(metric in SILENT for metric, _labels in series(query))
        if not silent and not prometheus.samples(_filled(query)):
            empty.append((where, _filled(query)))
    assert empty == []


def test_all_alerts_are_taken_and_none_fires_for_a_healthy_cluster(prometheus: Prometheus) -> None:
    (group,) = prometheus.get("rules")["groups"]
    assert [rule["health"] for rule in group["rules"] if rule["health"] not in ("ok", "unknown")] == []
    for where, query, _ in all_queries():
        if ": " not in where:
            assert prometheus.samples(query) == [], where


def test_the_query_for_prometheus_adapter_has_a_figure_for_each_pod(prometheus: Prometheus) -> None:
    """The adapter itself is nowhere to be had here: its rule of the document is filled in as it does that."""
    text = (ROOT / "docs/kubernetes.md").read_text()
    examples = [yaml.safe_load(part.split("```")[0]) for part in text.split("```yaml\n")[1:]]
    (rule,) = next(example["rules"] for example in examples if "rules" in example)
    query = adapter_query(rule, 'namespace="team",pod=~"demo-broker-0"').replace("[1m]", "[10s]")
    prometheus.until(query)
    assert [sample["metric"] for sample in prometheus.samples(query)] == [{"pod": "demo-broker-0"}]


def test_promtool_takes_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on this machine")
    done = subprocess.run([promtool, "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_cluster_without_brokers_fires(prometheus: Prometheus, tmp_path: pathlib.Path) -> None:
    telemetry.BROKERS.labels("team", "demo", "serving").set(0)
    try:
        query = next(query for where, query, _ in all_queries() if where == "AutoMQBrokersMissing")
        prometheus.until(query)
    finally:
        telemetry.BROKERS.labels("team", "demo", "serving").set(1)
