"""What `automq balance` shows and changes: a tagged field of DescribeCluster, and a dynamic config of all brokers."""

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from automq.cli.client import KafkaClient, RequestFailed, check
from automq.cli.output import Row
from automq.protocol.messages.admin import (
    IncrementalAlterableConfig,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse,
)
from automq.protocol.messages.discovery import DescribeClusterRequest, DescribeClusterResponse

BROKER_RESOURCE: Final = 4
SET: Final = 0
DELETE: Final = 1
PAUSED: Final = "automq.balancer.paused"
MB: Final = 1e6

View = Mapping[str, Any]


def balancer_of(client: KafkaClient, *, moves_max: int) -> View:
    """What the balancer tells, as JSON has it, each move with its undo. Raises RequestFailed."""
    answer = client.call(DescribeClusterRequest(balancer_moves=moves_max), DescribeClusterResponse)
    check(answer.error_code, "the balancer is not described", answer.error_message)
    if answer.balancer is None:
        raise RequestFailed(
            "these brokers have no balancer that can be asked: it takes automq brokers, which share a store; with "
            "Apache Kafka a partition moves by copying, see kafka-reassign-partitions --generate"
        )
    view = json.loads(answer.balancer)
    for move in (*view["planned"], *view["moves"]):
        move["undo"] = {
            "version": 1,
            "partitions": [{"topic": move["topic"], "partition": move["partition"], "replicas": [move["source"]]}],
        }
    return {"controller": answer.controller_id, **view}


def set_paused(client: KafkaClient, *, paused: bool) -> None:
    """Tell whoever is the controller, now and later. Raises RequestFailed."""
    change = IncrementalAlterableConfig(
        name=PAUSED, config_operation=SET if paused else DELETE, value="true" if paused else None
    )
    resource = IncrementalAlterConfigsResource(resource_type=BROKER_RESOURCE, resource_name="", configs=[change])
    answer = client.call(IncrementalAlterConfigsRequest(resources=[resource]), IncrementalAlterConfigsResponse)
    for result in answer.responses:
        check(result.error_code, f"{PAUSED} is not changed", result.error_message)


def state_of(view: View) -> Row:
    """Whether it works, and how much it did."""
    state = "off by automq.balancer.enable" if not view["enabled"] else "paused" if view["paused"] else "on"
    return {
        "balancer": state,
        "controller": view["controller"],
        "since": _time(view["since_ms"]),
        "moves decided since": view["decided"],
        "under way": view["moving"],
        "would move now": len(view["planned"]),
    }


def broker_rows(view: View) -> list[Row]:
    """A line for each broker that is alive."""
    return [
        {
            "broker": broker["broker"],
            "rack": broker["rack"] or "",
            "share": f"{broker['share']:.2f}",
            "partitions": broker["partitions"],
            "MB/s": f"{broker['bytes_per_second'] / MB:.2f}",
            "loop": f"{broker['loop_busy']:.0%}",
            "not uploaded": f"{broker['unuploaded_bytes'] / MB:.1f} MB",
            "takes": broker["takes"],
        }
        for broker in view["brokers"]
    ]


def move_rows(moves: Sequence[View]) -> list[Row]:
    """A line for each move."""
    return [
        {
            "when": "" if move["at_ms"] is None else _time(move["at_ms"]),
            "partition": f"{move['topic']}-{move['partition']}",
            "from": move["source"],
            "to": move["target"],
            "state": move["state"],
            "reason": move["reason"],
            "expected": move["expected"],
            "undo": f"replicas [{move['source']}]",
        }
        for move in moves
    ]


def _time(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
