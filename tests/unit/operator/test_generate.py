"""docs/kubernetes.md says what the models and the table of reasons say."""

from automq_operator.catalogue import CLUSTER
from automq_operator.generate import field_table, reason_table
from automq_operator.reasons import MEANINGS
from tests.support.generate_docs import DOCS, GENERATED, with_sections


def test_reference_is_up_to_date() -> None:
    text = (DOCS / "kubernetes.md").read_text()
    assert with_sections(text, GENERATED["kubernetes.md"]) == text, "run make docs"


def test_every_reason_has_its_line() -> None:
    assert reason_table().count("\n| ") == len(MEANINGS)


def test_every_field_has_a_meaning() -> None:
    for part in ("spec", "status"):
        for line in field_table(CLUSTER, part).splitlines()[2:]:
            assert not line.endswith("|  |"), line
