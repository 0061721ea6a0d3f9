"""The provenance is a Process Run Crate, by the judgement of a public validator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
import rocrate
from rdflib.plugins.shared.jsonld import context as rdflib_context
from rocrate_validator import services
from rocrate_validator.models import Severity, ValidationSettings

from harness.reproduce.crate import Publication
from harness.reproduce.inspection import extract
from harness.reproduce.pack import pack
from tests.bundles import run_directory, small_image

# Of the validator's own libraries among each other.
pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph:DeprecationWarning")

# rocrate brings the terms of RO-Crate 1.3 along, in which those of 1.1 are.
CONTEXT = Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld"
URL = "https://w3id.org/ro/crate/1.1/context"


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve the one context there is, as JSON, and nothing else."""

    def send(_: object, request: requests.PreparedRequest, **more: object) -> requests.Response:
        assert request.url == URL, "a crate needs no other document"
        response = requests.Response()
        response.status_code, response.url = 200, URL
        response.headers["Content-Type"] = "application/ld+json"
        response._content = CONTEXT.read_bytes()
        return response

    def source_to_json(source: object, *more: object) -> tuple[Any, None]:
        assert str(source) == URL, "a crate needs no other document"
        return json.loads(CONTEXT.read_bytes()), None

    monkeypatch.setattr(requests.Session, "send", send)
    monkeypatch.setattr(rdflib_context, "source_to_json", source_to_json)


def problems(crate: Path) -> list[str]:
    """Return what the validator finds, recommendations included."""
    settings = ValidationSettings(
        rocrate_uri=str(crate),
        profile_identifier="process-run-crate",
        requirement_severity=Severity.RECOMMENDED,
        no_cache=True,
    )
    result = services.validate(settings)
    return [f"{issue.severity.name}: {issue.message}" for issue in result.get_issues()]


@pytest.fixture
def crate(tmp_path: Path) -> Path:
    directory = run_directory(tmp_path / "run", small_image(tmp_path))
    said = Publication("Example", "A. Author", "Institute <https://example.org/>", "CC-BY-4.0")
    bundle = tmp_path / "x.tar.zst"
    pack(directory, bundle, print, with_images=False, publication=said)
    extract(bundle, tmp_path / "crate")
    return tmp_path / "crate"


@pytest.mark.usefixtures("_no_network")
def test_the_validator_finds_nothing(crate: Path) -> None:
    assert problems(crate) == []


@pytest.mark.usefixtures("_no_network")
def test_without_what_only_the_author_can_say_it_recommends_that(tmp_path: Path) -> None:
    directory = run_directory(tmp_path / "run", small_image(tmp_path))
    pack(directory, tmp_path / "x.tar.zst", print, with_images=False)
    extract(tmp_path / "x.tar.zst", tmp_path / "crate")
    found = problems(tmp_path / "crate")
    assert all(line.startswith("RECOMMENDED: The ") for line in found)
    assert all("publisher" in line or "affiliation" in line for line in found)


@pytest.mark.usefixtures("_no_network")
def test_the_validator_finds_what_is_wrong(crate: Path) -> None:
    file = crate / "ro-crate-metadata.json"
    document = json.loads(file.read_text())
    for entity in document["@graph"]:
        entity.pop("instrument", None)
    file.write_text(json.dumps(document))
    assert any("instrument" in line for line in problems(crate))


def test_what_it_says(crate: Path) -> None:
    document = json.loads((crate / "ro-crate-metadata.json").read_text())
    entities = {entity["@id"]: entity for entity in document["@graph"]}
    action = entities["#bench"]
    assert action["startTime"] == "2025-10-09T08:53:20+00:00"
    assert action["actionStatus"] == "http://schema.org/CompletedActionStatus"
    image = entities["#image-dask"]
    assert image["name"] == "workflow-memory-harness/dask"
    assert len(image["sha256"]) == 64
    assert entities["./"]["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert entities["#parameter-seed"]["value"] == 7
    assert entities["run/results.csv"]["encodingFormat"] == "text/csv"
