"""The demo's picture, and its shortest run."""

import pathlib
import xml.etree.ElementTree as ElementTree

import pytest
from rich.console import Console

from tests.demo.__main__ import Demo
from tests.demo.picture import Record, Sample, svg


def test_picture_has_each_broker_each_stall_and_each_event() -> None:
    record = Record(
        samples=[
            Sample(0.0, {1: 1.0}, {1: 6}),
            Sample(5.0, {1: 0.5, 2: 0.5}, {1: 3, 2: 3}),
            Sample(9.0, {2: 1.0}, {2: 6}),
        ],
        events=[(0.0, "begin"), (5.0, "<kill>")],
        stalls=[(5.0, 6.5)],
    )
    root = ElementTree.fromstring(svg(record))
    name = "{http://www.w3.org/2000/svg}"

    assert len(root.findall(f"{name}polygon")) == 2
    assert len(root.findall(f"{name}line")) == 2
    assert [each.get("fill-opacity") for each in root.findall(f"{name}rect") if each.get("fill") == "#e15759"] == [
        "0.5"
    ]
    assert {"broker 1", "broker 2", "begin", "<kill>"} <= {each.text for each in root.findall(f"{name}text")}


def test_picture_of_nothing_is_one() -> None:
    assert ElementTree.fromstring(svg(Record())).tag.endswith("svg")


@pytest.mark.timeout(900)
def test_demo_does_each_step_and_loses_no_record(tmp_path: pathlib.Path) -> None:
    demo = Demo(tmp_path, Console(quiet=True), seconds=1.0, rate=200)
    try:
        demo.run()
    finally:
        demo.members.end()

    assert [line.split(":")[0] for line in demo.lines[:2]] == ["three brokers", "two more join"]
    assert len(demo.lines) == 6
    assert demo.lines[-1].endswith(" 0 failed")
    assert {node for sample in demo.record.samples for node in sample.leaders} >= {1, 2, 3, 4, 5}
