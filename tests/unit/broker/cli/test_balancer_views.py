"""What `automq balance` makes of what brokers say."""

import json
from typing import Any, cast

import pytest

from automq.cli.balancer_views import balancer_of, broker_rows, move_rows, set_paused, state_of
from automq.cli.client import KafkaClient, RequestFailed
from automq.protocol.messages.admin import (
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from automq.protocol.messages.discovery import DescribeClusterRequest, DescribeClusterResponse

MOVE = {
    "topic": "orders",
    "partition": 3,
    "source": 1,
    "target": 2,
    "reason": "r",
    "expected": "e",
    "at_ms": 1_000,
    "state": "done",
}
VIEW = {
    "enabled": True,
    "paused": False,
    "since_ms": 0,
    "decided": 7,
    "moving": 1,
    "brokers": [
        {
            "broker": 1,
            "rack": None,
            "share": 1.257,
            "partitions": 3,
            "bytes_per_second": 2_500_000,
            "loop_busy": 0.4,
            "unuploaded_bytes": 1_000_000,
            "takes": True,
        }
    ],
    "planned": [{**MOVE, "at_ms": None, "state": "planned"}],
    "moves": [MOVE],
}


class Client:
    """Answers with what it was given, and remembers what was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def call(self, request: Any, _response: Any) -> Any:
        self.asked.append(request)
        return self.answers.pop(0)


def asked(client: Client) -> KafkaClient:
    return cast(KafkaClient, client)


def test_every_move_says_how_to_undo_it() -> None:
    client = Client(DescribeClusterResponse(controller_id=2, balancer=json.dumps(VIEW)))
    view = balancer_of(asked(client), moves_max=9)
    assert client.asked == [DescribeClusterRequest(balancer_moves=9)]
    undo = {"version": 1, "partitions": [{"topic": "orders", "partition": 3, "replicas": [1]}]}
    assert [move["undo"] for move in (*view["planned"], *view["moves"])] == [undo, undo]
    (row,) = move_rows(view["moves"])
    assert (row["when"], row["partition"], row["undo"]) == ("1970-01-01 00:00:01Z", "orders-3", "replicas [1]")
    (row,) = broker_rows(view)
    assert (row["share"], row["MB/s"], row["loop"]) == ("1.26", "2.50", "40%")
    assert state_of(view) == {
        "balancer": "on",
        "controller": 2,
        "since": "1970-01-01 00:00:00Z",
        "moves decided since": 7,
        "under way": 1,
        "would move now": 1,
    }
    assert state_of({**view, "paused": True})["balancer"] == "paused"
    assert state_of({**view, "enabled": False})["balancer"] == "off by automq.balancer.enable"


def test_another_kafka_is_told_what_it_takes() -> None:
    with pytest.raises(RequestFailed, match="it takes automq brokers"):
        balancer_of(asked(Client(DescribeClusterResponse())), moves_max=0)


def test_an_error_is_passed_on_with_its_reason() -> None:
    with pytest.raises(RequestFailed, match=r"NOT_CONTROLLER: soon"):
        balancer_of(asked(Client(DescribeClusterResponse(error_code=41, error_message="soon"))), moves_max=0)


@pytest.mark.parametrize(("paused", "operation", "value"), [(True, 0, "true"), (False, 1, None)])
def test_pause_is_set_for_all_brokers_and_taken_back(paused: bool, operation: int, value: str | None) -> None:
    client = Client(IncrementalAlterConfigsResponse(responses=[AlterConfigsResourceResponse()]))
    set_paused(asked(client), paused=paused)
    (request,) = client.asked
    assert isinstance(request, IncrementalAlterConfigsRequest)
    (resource,) = request.resources
    (change,) = resource.configs
    assert (resource.resource_type, resource.resource_name) == (4, "")
    assert (change.name, change.config_operation, change.value) == ("automq.balancer.paused", operation, value)
    refused = IncrementalAlterConfigsResponse(responses=[AlterConfigsResourceResponse(error_code=31)])
    with pytest.raises(RequestFailed, match=r"automq\.balancer\.paused is not changed"):
        set_paused(asked(Client(refused)), paused=paused)
