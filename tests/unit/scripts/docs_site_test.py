"""The documentation's site: it is whole, and asks the network for nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does: a broken link or a page without a place fails."""
    place = tmp_path_factory.mktemp("docs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)],
        cwd=ROOT,
        # Without a network: whoever asks for one, fails.
        env={**os.environ, "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return place


class _Fetched(HTMLParser):
    """Collects what a browser fetches for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.found.append(named.get("src") or "")
        if tag == "link" and named.get("rel") not in ("prev", "next", "canonical"):
            self.found.append(named.get("href") or "")


def test_nothing_is_fetched_from_elsewhere_and_all_else_is_there(site: Path) -> None:
    pages = list(site.glob("*.html"))
    assert len(pages) > 25
    for page in pages:
        reader = _Fetched()
        reader.feed(page.read_text(encoding="utf-8"))
        assert len(reader.found) > 3, page
        for name in filter(None, reader.found):
            assert not re.match(r"(https?:)?//", name), f"{page.name}: {name}"
            if not name.startswith("data:"):
                # The page of a missing page is for the top of a web server.
                assert (site / name.partition("?")[0].lstrip("/")).is_file(), f"{page.name}: {name}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_it_has_a_page_of_every_kind() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    kinds = [next(iter(each)) for each in yaml.safe_load(text)["nav"]]
    assert kinds == ["Home", "Begin", "How to", "Reference", "Explanation", "Glossary"]


def test_what_lies_beside_docs_is_in_the_site(site: Path) -> None:
    for name in ("images.html", "contributing.html", "changelog.html", "LICENSE.txt"):
        assert (site / name).stat().st_size > 500, name
    assert 'href="LICENSE.txt"' in (site / "publish.html").read_text(encoding="utf-8")
    # The address of a page in `docs/`, as it is from within.
    assert 'href="versions.html' in (site / "images.html").read_text(encoding="utf-8")


def test_the_readme_can_be_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
