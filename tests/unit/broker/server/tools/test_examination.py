"""`fsck` names what is damaged in a lived prefix, whom it concerns and what to do, and changes nothing."""

from collections.abc import Callable

import pytest

from automq.ids import ClusterId
from automq.metadata.log_format import claim_folder, log_folder, snapshot_folder
from automq.metadata.patience import Patience
from automq.runtime.entropy import SeededEntropy
from automq.runtime.tasks import Tasks
from automq.s3stream.objects.format import object_folder
from automq.s3stream.ports import StoreError
from automq.s3stream.store.layout import CLUSTER_KEY
from automq.s3stream.store.memory import MemoryStore
from automq.server.tools.examination import Examination
from automq.server.tools.findings import Report, Severity
from tests.support.lived_prefix import TOPIC, everything, filled, lived_prefix

pytestmark = pytest.mark.looptime

Bodies = dict[str, bytes]


def raised(error: StoreError | None) -> None:
    if error is not None:
        raise error


async def examined(bodies: Bodies, *, deep: bool = False) -> Report:
    """The report on a store of these keys, which are the same afterwards."""
    store = MemoryStore()
    await filled(store, bodies)
    entropy = SeededEntropy(1)
    tasks = Tasks("test", on_crash=lambda _name, _error: None)
    patience = Patience(entropy=entropy, on_store=raised)
    report = await Examination(
        store=store, name="memory:", entropy=entropy, tasks=tasks, patience=patience, deep=deep
    ).run()
    assert await everything(store) == bodies
    return report


async def lived() -> tuple[Bodies, ClusterId]:
    bodies = dict(await lived_prefix())
    return bodies, ClusterId(next(key for key in bodies if key != CLUSTER_KEY).partition("/")[0])


def below(bodies: Bodies, folder: str) -> list[str]:
    return sorted(key for key in bodies if key.startswith(folder))


def flipped(body: bytes, at: int) -> bytes:
    changed = bytearray(body)
    changed[at] ^= 0x10
    return bytes(changed)


@pytest.mark.parametrize("deep", [False, True])
async def test_healthy_cluster_is_clean(deep: bool) -> None:
    bodies, cluster_id = await lived()
    report = await examined(bodies, deep=deep)
    assert [finding for finding in report.findings if finding.severity is not Severity.NOTE] == []
    assert (report.cluster_id, report.bytes) == (cluster_id, sum(map(len, bodies.values())))
    assert sum(report.keys.values()) == len(bodies)


async def test_empty_prefix_is_no_damage() -> None:
    report = await examined({})
    assert [finding.severity for finding in report.findings] == [Severity.NOTE]


async def test_missing_object_is_named_with_the_offsets_that_lay_in_it() -> None:
    bodies, cluster_id = await lived()
    key = below(bodies, object_folder(cluster_id))[0]
    del bodies[key]
    (finding,) = [found for found in (await examined(bodies)).findings if found.severity is Severity.DAMAGE]
    assert finding.key == key
    assert "missing" in finding.what
    assert "automq repair" in finding.remedy
    assert any(part.topic == TOPIC and part.partition == 0 and part.end for part in finding.affected)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda body: flipped(body, len(body) // 2), id="block or index"),
        pytest.param(lambda body: flipped(body, len(body) - 8), id="footer"),
        pytest.param(lambda body: body[:-20], id="cut"),
        pytest.param(lambda _body: b"", id="emptied"),
    ],
)
async def test_damaged_object_is_found(damage: Callable[[bytes], bytes]) -> None:
    bodies, cluster_id = await lived()
    for key in below(bodies, object_folder(cluster_id)):
        changed = {**bodies, key: damage(bodies[key])}
        report = await examined(changed, deep=True)
        assert [finding.key for finding in report.findings if finding.severity is not Severity.NOTE] == [key]


async def test_damaged_snapshot_is_a_warning() -> None:
    bodies, cluster_id = await lived()
    key = below(bodies, snapshot_folder(cluster_id))[-1]
    bodies[key] = flipped(bodies[key], 90)
    report = await examined(bodies)
    assert [(finding.severity, finding.key) for finding in report.findings] == [(Severity.WARNING, key)]
    assert not report.is_damaged


@pytest.mark.parametrize("folder", [claim_folder, log_folder, snapshot_folder])
async def test_folder_of_the_metadata_that_is_gone_is_damage(folder: Callable[[ClusterId], str]) -> None:
    bodies, cluster_id = await lived()
    for key in below(bodies, folder(cluster_id)):
        del bodies[key]
    assert (await examined(bodies)).is_damaged


async def test_newest_metadata_slots_that_are_gone_are_damage() -> None:
    bodies, cluster_id = await lived()
    for key in below(bodies, log_folder(cluster_id))[-3:]:
        del bodies[key]
    report = await examined(bodies)
    assert report.is_damaged
    assert "lost its newest slots" in report.findings[-1].what


@pytest.mark.parametrize("body", [b"{", b"", None])
async def test_damaged_or_missing_cluster_key_is_damage(body: bytes | None) -> None:
    bodies, _ = await lived()
    del bodies[CLUSTER_KEY]
    if body is not None:
        bodies[CLUSTER_KEY] = body
    report = await examined(bodies)
    assert report.is_damaged
    assert report.findings[-1].key == CLUSTER_KEY


async def test_strangers_are_named_and_passed_over() -> None:
    bodies, cluster_id = await lived()
    for stranger in ("notes.txt~", f"{cluster_id}/meta/claims/copy", f"{cluster_id}/data/Thumbs.db"):
        bodies[stranger] = b""
    report = await examined(bodies)
    assert sorted(finding.key for finding in report.findings) == sorted(
        repr(key) for key in ("notes.txt~", f"{cluster_id}/meta/claims/copy", f"{cluster_id}/data/Thumbs.db")
    )
    assert not report.is_damaged


async def test_object_that_nothing_refers_to_is_a_note() -> None:
    bodies, cluster_id = await lived()
    keys = below(bodies, object_folder(cluster_id))
    report = await examined(bodies)
    known = {finding.key for finding in report.findings}
    assert known <= set(keys)
