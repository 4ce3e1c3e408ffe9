"""docs/kubernetes.md says what the models and the table of reasons say."""

import pytest

from automq_operator.catalogue import CLUSTER
from automq_operator.generate import chart_files, field_table, reason_table
from automq_operator.reasons import MEANINGS
from tests.support.generate_docs import DOCS, GENERATED, with_sections


@pytest.mark.parametrize("document", ["kubernetes.md", "runbook.md"])
def test_reference_is_up_to_date(document: str) -> None:
    text = (DOCS / document).read_text()
    assert with_sections(text, GENERATED[document]) == text, "run make docs"


def test_charts_have_what_the_lists_say() -> None:
    for name, text in chart_files().items():
        assert (DOCS.parent / name).read_text() == text, "run make crds"


def test_every_reason_has_its_line() -> None:
    assert reason_table().count("\n| ") == len(MEANINGS)


def test_every_field_has_a_meaning() -> None:
    for part in ("spec", "status"):
        for line in field_table(CLUSTER, part).splitlines()[2:]:
            assert not line.endswith("|  |"), line
