"""A store that is wrong, missing or away: said at once, healed without a restart."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.e2e import faults
from tests.e2e.environment import StepFailed, wait_for
from tests.e2e.story import Figure
from tests.e2e.world import World


def heals(world: World, name: str, reason: str, storage: Mapping[str, Any], repair: Callable[[], None]) -> None:
    """A cluster whose store is wrong says so, and heals without a restart when it is repaired."""
    world.apply(name, storage=storage)
    wait_for(f"{reason} shows", lambda: world.condition(name, "StorageReady") == ("False", reason), 90)
    assert world.condition(name, "Ready")[0] == "False"
    uid = world.pod(name)["metadata"]["uid"]
    repair()
    world.wait_ready(name, 150)
    pod = world.pod(name)
    if pod["metadata"]["uid"] != uid or pod["status"]["containerStatuses"][0]["restartCount"]:
        raise StepFailed("the broker was restarted")
    world.wait_event(name, "StoreAvailable")
    world.delete(name)


def missing_secret_is_named_and_heals(world: World) -> None:
    repair = lambda: world.secret("later-s3")  # noqa: E731 - a name would say no more
    heals(world, "nosecret", "StoreCredentialsRejected", {"credentialsSecret": "later-s3"}, repair)


def wrong_credentials_are_named_and_heal(world: World) -> None:
    world.secret("wrong-s3", secret_key="not the key")
    repair = lambda: world.secret("wrong-s3")  # noqa: E731 - a name would say no more
    heals(world, "wrongkey", "StoreCredentialsRejected", {"credentialsSecret": "wrong-s3"}, repair)


def missing_bucket_is_named_and_heals(world: World) -> None:
    later = f"{world.bucket_name}-later"
    heals(world, "nobucket", "BucketNotFound", {"bucket": later}, lambda: world.bucket(later))


def store_that_is_down_makes_ready_false_and_restarts_nothing(world: World) -> Figure:
    healed = 0.0

    def outage() -> None:
        nonlocal healed
        with faults.store_stopped(world):
            wait_for("Ready says so", lambda: world.condition("demo", "Ready") == ("False", "Store"), 90)
            assert world.condition("demo", "StorageReady") == ("False", "StoreUnreachable")
        began = time.monotonic()
        world.wait_ready("demo", 90)
        healed = time.monotonic() - began

    faults.same_pod_throughout(world, "demo", "store-down", outage)
    world.wait_event("demo", "Store")
    return Figure(healed, 15, "store back to Ready")
