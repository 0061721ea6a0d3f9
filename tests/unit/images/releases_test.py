"""Releases as an index tells them, over real HTTP; which of them a range comes to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from harness.core.errors import InfrastructureError, UsageError
from harness.images.releases import LATEST, Every, choose, released

# Answers of an index, cut down to a few files.
FILES = [
    ("toy-2024.10.0-py3-none-any.whl", False),
    ("toy-2024.3.0-py3-none-any.whl", False),
    ("toy-2024.3.1-py3-none-any.whl", False),
    ("toy-2024.3.1.tar.gz", True),
    ("toy-2024.9.1-py3-none-any.whl", "broken metadata"),
    ("toy-2024.9.0-py3-none-any.whl", False),
    ("toy-2025.1.0rc1-py3-none-any.whl", False),
    ("toy-2025.1.0.dev3.tar.gz", False),
    ("toy-no-version.exe", False),
]
JSON_ANSWER = json.dumps(
    {
        "meta": {"api-version": "1.0"},
        "name": "toy",
        "files": [
            {"filename": name, "url": f"../{name}", "hashes": {}, "yanked": yanked}
            for name, yanked in FILES
        ],
    }
)
HTML_ANSWER = "<!DOCTYPE html><html><body>{}</body></html>".format(
    "".join(
        f'<a href="../{name}"{" data-yanked" if yanked else ""}>{name}</a>'
        for name, yanked in FILES
    )
)
ANSWERS = {
    "/simple/toy/": (200, "application/vnd.pypi.simple.v1+json", JSON_ANSWER),
    "/simple/old-index/": (200, "text/html", HTML_ANSWER),
    "/simple/broken/": (503, "text/plain", "try later"),
    "/simple/strange/": (200, "application/x-strange", "?"),
}


class Index(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        code, kind, text = ANSWERS.get(self.path, (404, "text/plain", "no"))
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/simple/"
        monkeypatch.setenv("PIP_INDEX_URL", address)
        yield address
        server.shutdown()


def text(versions: tuple[Version, ...] | list[Version]) -> list[str]:
    return [str(version) for version in versions]


@pytest.mark.parametrize("name", ["toy", "old_index"])
def test_releases_are_in_the_order_of_versions_without_yanked_and_pre_releases(name: str) -> None:
    assert text(released(name)) == ["2024.3.0", "2024.3.1", "2024.9.0", "2024.10.0"]


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("nothing", UsageError, "--stack nothing: the package index has no such package"),
        ("broken", InfrastructureError, "--stack broken: the package index does not answer"),
        ("strange", InfrastructureError, "--stack strange: the package index gives no list"),
    ],
)
def test_an_index_without_an_answer_is_one_line(
    name: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as raised:
        released(name)
    assert "\n" not in str(raised.value)


ALL = [Version(v) for v in ("0.9", "1.0", "1.0.1", "1.2.0", "1.9.3", "1.10.0", "1.10.2", "2.0")]


@pytest.mark.parametrize(
    ("first", "last", "every", "found"),
    [
        ("1", LATEST, Every.MINOR, ["1.0.1", "1.2.0", "1.9.3", "1.10.2", "2.0"]),
        ("1.0.1", "1.10.0", Every.MINOR, ["1.0.1", "1.2.0", "1.9.3", "1.10.0"]),
        ("1.2", "1.10", Every.RELEASE, ["1.2.0", "1.9.3", "1.10.0", "1.10.2"]),
        ("1.10.1", "1.10", Every.RELEASE, ["1.10.2"]),
        ("2.0", "2.0.0", Every.MINOR, ["2.0"]),
    ],
)
def test_a_range(first: str, last: str, every: Every, found: list[str]) -> None:
    chosen = choose("toy", ALL, (first, last), every, SpecifierSet())
    assert text(chosen.versions) == found
    assert chosen.left_out == ()


def test_what_the_harness_does_not_run_with_is_left_out() -> None:
    chosen = choose("toy", ALL, ("1.0", "1.9"), Every.MINOR, SpecifierSet(">=1.2"))
    assert text(chosen.versions) == ["1.2.0", "1.9.3"]
    assert text(chosen.left_out) == ["1.0", "1.0.1"]


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ("new", LATEST, "--from new: is no version: write one such as 2024.3"),
        ("1", "soon", "--to soon: is no version: write one such as 2024.3 or latest"),
        ("1.2", "1.0", "--from 1.2: is newer than --to 1.0: swap them"),
        ("3", LATEST, "--from 3 --to latest: no release of toy in this range; it has 0.9 to 2.0"),
        ("0.1", "0.9", "the harness runs with toy>=1.2 and with no release in this range"),
    ],
)
def test_a_wrong_range_is_one_line_that_names_the_flag(first: str, last: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        choose("toy", ALL, (first, last), Every.MINOR, SpecifierSet(">=1.2"))
    assert said in str(raised.value)
