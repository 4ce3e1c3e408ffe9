"""Damage that is gone on with: named once, counted, and forgotten when it is gone."""

import pytest

from automq.controller import reports as module
from automq.controller.reports import DamageReports, damage_gauge, watch_objects
from automq.ids import ObjectId
from automq.metadata.records import ObjectsDestroyed
from automq.runtime.telemetry import Metrics
from automq.s3stream.model import DataMissing
from tests.support.growth import new_cluster


def missing(key: str) -> DataMissing:
    return DataMissing(key=key, what="an object")


def test_each_round_replaces_what_the_last_one_found(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    reports = DamageReports(gauge=damage_gauge(metrics))
    assert reports.summary() is None
    reports.replace("sweep", [missing("c/data/2"), missing("c/data/1")])
    reports.add("snapshots", missing("c/meta/snapshots/1"))
    reports.replace("sweep", [missing("c/data/2")])

    assert reports.keys == ["c/data/2", "c/meta/snapshots/1"]
    summary = reports.summary()
    assert summary is not None
    assert summary.startswith("2 keys of the store are damaged or missing, such as c/data/2")
    assert b"automq_metadata_damaged_keys 2.0" in metrics.render()
    assert [record.__dict__["key"] for record in caplog.records] == ["c/data/2", "c/data/1", "c/meta/snapshots/1"]
    reports.replace("sweep", [])
    reports.replace("snapshots", [])
    assert reports.summary() is None


def test_much_damage_does_not_fill_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAMED_MAX", 3)
    reports = DamageReports(gauge=damage_gauge(Metrics()))
    reports.replace("sweep", [missing(str(number)) for number in range(10)])
    assert len(caplog.records) == 4
    assert caplog.records[-1].__dict__["keys"] == 7


def test_objects_are_counted_as_they_come_and_go() -> None:
    metrics, growth = Metrics(), new_cluster(3)
    watch_objects(metrics, lambda: growth.machine.image)

    def shown() -> list[str]:
        return [line for line in metrics.render().decode().splitlines() if line.startswith("automq_objects{")]

    growth.grow(4)
    growth.machine.replay(growth.prepared())
    assert shown() == [
        'automq_objects{state="committed"} 4.0',
        'automq_objects{state="prepared"} 1.0',
        'automq_objects{state="destroyed"} 0.0',
    ]
    growth.machine.replay(ObjectsDestroyed(objects=(ObjectId(growth.next_object),), at_ms=1))
    assert shown()[1:] == ['automq_objects{state="prepared"} 0.0', 'automq_objects{state="destroyed"} 1.0']
