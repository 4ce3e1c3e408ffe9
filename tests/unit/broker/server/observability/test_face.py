"""docs/broker.md says what the code says."""

import pathlib

from automq.server.config.settings import declared_settings
from automq.server.observability.face import SECTIONS_OF_DOCUMENT, settings_table
from tests.support.generate_docs import with_sections

DOCUMENT = pathlib.Path(__file__).parents[5] / "docs/broker.md"


def test_document_has_the_tables_of_the_code() -> None:
    text = DOCUMENT.read_text()

    assert with_sections(text, SECTIONS_OF_DOCUMENT) == text, "run `make docs`"


def test_table_has_every_setting_once() -> None:
    table = settings_table()

    for name in declared_settings():
        assert table.count(f"| `{name}` |") == 1
