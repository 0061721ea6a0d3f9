from __future__ import annotations

from pathlib import Path

import harness
from harness.results.document import document


def test_the_page_in_docs_is_the_schemas() -> None:
    page = Path(harness.__file__).parent.parent / "docs" / "run-directory.md"
    assert page.read_text() == document(), "run: python -m harness.results.document > docs/..."
