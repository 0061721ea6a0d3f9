"""A bundle's documents: bill of materials, claims and provenance.

A bill of materials for each image, in CycloneDX, read from the image itself.

What a run directory says of itself: the claims of a bundle.

A run's provenance, as a Process Run Crate: who ran what, on which images, with which result.

The profile is https://w3id.org/ro/wfrun/process/0.5. Nothing in it depends on when it is
written.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from rocrate.model.contextentity import ContextEntity
from rocrate.model.data_entity import DataEntity
from rocrate.rocrate import ROCrate

from harness.core.errors import UsageError
from harness.images.lock import debian_packages
from harness.images.oci import OciImage
from harness.images.recipe import EPOCH
from harness.reproduce.format import IMAGES, RUN, Claims, ImageEntry
from harness.results.directory import RunDirectory
from harness.results.documents import read_document
from harness.results.rows import read_table
from harness.results.schema import MarkRow

_METADATA = ".dist-info/METADATA"


@dataclass(frozen=True)
class _Distribution:
    name: str
    version: str
    license: str


def sbom(stack: str, image: OciImage) -> bytes:
    """Return the bill of materials of an image: Debian packages and Python distributions.

    The same image has the same one: its time is the epoch, its serial number follows from the id.
    """
    bom = Bom(serial_number=uuid5(NAMESPACE_URL, image.manifest_digest))
    bom.metadata.timestamp = datetime.fromtimestamp(EPOCH, UTC)
    labels = image.document["config"].get("Labels") or {}
    bom.metadata.component = Component(
        name=f"workflow-memory-harness/{stack}",
        version=labels.get("org.opencontainers.image.version", "0"),
        type=ComponentType.CONTAINER,
        bom_ref=image.manifest_digest,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=image.id.partition(":")[2])],
    )
    architecture = image.document["architecture"]
    for name, version in debian_packages(image.layers).items():
        purl = PackageURL(
            "deb",
            "debian",
            name.partition(":")[0],
            version,
            {"arch": architecture, "distro": "debian-13"},
        )
        bom.components.add(_component(name, version, purl, ""))
    for found in _distributions(image):
        purl = PackageURL("pypi", None, found.name.lower().replace("_", "-"), found.version)
        bom.components.add(_component(found.name, found.version, purl, found.license))
    bom.register_dependency(bom.metadata.component, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1).encode() + b"\n"


def _component(name: str, version: str, purl: PackageURL, license_text: str) -> Component:
    licenses = [DisjunctiveLicense(name=license_text)] if license_text else []
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=licenses,
    )


def _distributions(image: OciImage) -> Iterator[_Distribution]:
    """Yield what ``pip list`` would: each distribution's own metadata."""
    for layer in image.layers:
        with tarfile.open(layer.path, "r:") as tar:
            for member in tar:
                if (
                    member.isreg()
                    and member.name.endswith(_METADATA)
                    and "site-packages" in member.name
                ):
                    file = tar.extractfile(member)
                    assert file is not None
                    message = BytesParser().parse(file, headersonly=True)
                    yield _Distribution(
                        message["Name"], message["Version"], _package_license(message)
                    )


def _package_license(message: Message) -> str:
    found = message["License-Expression"] or message["License"] or ""
    # Some put the whole text there.
    return found if found and "\n" not in found and len(found) < 100 else ""


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return a run directory's manifest.

    Raises:
        UsageError: if there is none.
    """
    manifest, problems = read_document(RunDirectory(directory).manifest)
    if problems:
        raise UsageError(problems[0].replace("; ignored", "; nothing can be packed"))
    traced = RunDirectory(directory).why
    if "plan" not in manifest and RunDirectory(traced).manifest.exists():
        raise UsageError(f"{directory}: has traced runs only (--why only): pack {traced}")
    if "plan" not in manifest:
        raise UsageError(
            f"{directory}: has no manifest.json with a plan; name a run directory, such as"
            " runs/workflow-memory-..."
        )
    return manifest


def claims(name: str, directory: Path, manifest: dict[str, Any]) -> Claims:
    """Return the run's claims.

    Raises:
        UsageError: if the manifest is not one of this harness.
    """
    started, ended = times(directory)
    try:
        plan = manifest["plan"]
        return Claims(
            name=name,
            executor=plan["executor_name"],
            connector=plan["connector_name"],
            modes=list(plan["workload"]["modes"]),
            repeat=plan["general"]["repeat"],
            seed=plan["workload"]["seed"],
            harness_version=str(manifest["harness_version"]),
            git_revision=manifest.get("git_revision"),
            started=started,
            ended=ended,
        )
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"{directory}/manifest.json: is not one of this harness") from None


def times(directory: Path) -> tuple[str, str]:
    """Return when a run directory's first and last mark were set, ISO 8601, UTC.

    Raises:
        UsageError: if it has no marks.
    """
    path = RunDirectory(directory).marks
    stamps = [row.t_unix_ns for row in read_table(path, MarkRow).rows]
    if not stamps:
        raise UsageError(f"{path}: has no times; did the bench get to its first run?")
    moments = [datetime.fromtimestamp(stamp // 10**9, UTC) for stamp in (min(stamps), max(stamps))]
    return moments[0].isoformat(), moments[1].isoformat()


PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_TERMS = "https://w3id.org/ro/terms/workflow-run"
# What the profile adds to RO-Crate's own terms; written out, so that no second context is fetched.
_CONTEXT = {
    name: f"{_TERMS}#{name}"
    for name in ("ContainerImage", "DockerImage", "containerImage", "registry", "sha256", "tag")
}
_FILES = RunDirectory(Path())
_RESULTS = tuple(
    path.name
    for path in (
        _FILES.results,
        _FILES.host_memory,
        _FILES.outcomes,
        _FILES.peaks,
        _FILES.objects,
    )
)
_MEDIA_TYPES = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".html": "text/html",
    ".yaml": "application/yaml",
    ".txt": "text/plain",
    ".log": "text/plain",
    ".lock": "text/plain",
}


@dataclass(frozen=True)
class Publication:
    """What only the author can say.

    Attributes:
        title: of the data set.
        author: a name.
        organization: the author's, which also publishes it: a name, or ``Name <URL>``.
        license: an SPDX identifier or a URL; empty where none is stated.
    """

    title: str = ""
    author: str = ""
    organization: str = ""
    license: str = ""


def crate(
    claims: Claims,
    images: Sequence[ImageEntry],
    files: Mapping[str, int],
    succeeded: bool,
    publication: Publication,
) -> bytes:
    """Return ``ro-crate-metadata.json``.

    Args:
        claims: what the run says of itself.
        images: what it ran on.
        files: path in the bundle to size in bytes.
        succeeded: whether every run went through.
        publication: what the author says.
    """
    made = ROCrate(version="1.1")
    title = publication.title or f"{claims.name}: memory of {claims.executor}, {claims.connector}"
    made.name = title
    made.description = (
        f"Memory use of the executor {claims.executor} with the connector {claims.connector} under"
        f" the data management modes {', '.join(claims.modes)}, {claims.repeat} runs of each, as"
        " measured by workflow-memory-harness; with the container images it ran on."
    )
    made.root_dataset["datePublished"] = claims.ended
    made.root_dataset["license"] = _license(made, publication.license)
    made.root_dataset["conformsTo"] = _entity(
        made, PROFILE, {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    )
    agent = _entity(
        made, "#author", {"@type": "Person", "name": publication.author or "Not stated"}
    )
    made.root_dataset["author"] = agent
    if publication.organization:
        organization = _organization(made, publication.organization)
        agent["affiliation"] = made.root_dataset["publisher"] = organization
    described = {path: size for path, size in files.items() if not path.startswith(f"{IMAGES}/")}
    if len(described) < len(files):
        properties = {"@type": "Dataset", "name": "container images, an OCI layout"}
        made.add(DataEntity(made, f"{IMAGES}/", properties=properties))
    data = {path: _file(made, path, size) for path, size in sorted(described.items())}
    action = _entity(
        made,
        "#bench",
        {
            "@type": "CreateAction",
            "name": f"harness bench: {claims.executor}, {claims.connector}",
            "description": f"{claims.repeat} runs of each of {len(claims.modes)} modes",
            "startTime": claims.started,
            "endTime": claims.ended,
            "actionStatus": "http://schema.org/"
            + ("CompletedActionStatus" if succeeded else "FailedActionStatus"),
        },
    )
    action["agent"] = agent
    action["instrument"] = _instrument(made, claims)
    action["object"] = [
        *(data[path] for path in (f"{RUN}/plan.json",) if path in data),
        *_parameters(made, claims),
    ]
    action["result"] = [data[f"{RUN}/{name}"] for name in _RESULTS if f"{RUN}/{name}" in data]
    if images:
        found = [_image(made, entry) for entry in images]
        action["containerImage"] = found if len(found) > 1 else found[0]
    made.root_dataset["mentions"] = action
    document = made.metadata.generate()
    document["@context"] = [document["@context"], _CONTEXT]
    document["@graph"].sort(key=lambda entity: str(entity["@id"]))
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _entity(made: ROCrate, identifier: str, properties: dict[str, Any]) -> Any:
    return made.add(ContextEntity(made, identifier, properties=properties))


def _license(made: ROCrate, text: str) -> Any:
    if not text:
        name = "No licence is stated: ask the authors"
        return _entity(made, "#no-licence", {"@type": "CreativeWork", "name": name})
    url = text if "://" in text else f"https://spdx.org/licenses/{text}"
    return _entity(made, url, {"@type": "CreativeWork", "name": text})


def _organization(made: ROCrate, text: str) -> Any:
    name, _, url = text.removesuffix(">").partition("<")
    properties = {"@type": "Organization", "name": name.strip() or url}
    return _entity(made, url or "#organization", properties | ({"url": url} if url else {}))


def _instrument(made: ROCrate, claims: Claims) -> Any:
    # It gets its address as identifier and url when it has a public one.
    properties = {
        "@type": "SoftwareApplication",
        "name": "workflow-memory-harness",
        "softwareVersion": claims.git_revision or claims.harness_version,
    }
    return _entity(made, "#workflow-memory-harness", properties)


def _parameters(made: ROCrate, claims: Claims) -> Iterator[Any]:
    values = {"seed": claims.seed, "repeat": claims.repeat, "executor": claims.executor}
    values |= {"connector": claims.connector, "data-management": " ".join(claims.modes)}
    for name, value in values.items():
        properties = {"@type": "PropertyValue", "name": name, "value": value}
        yield _entity(made, f"#parameter-{name}", properties)


def _image(made: ROCrate, entry: ImageEntry) -> Any:
    name, _, tag = entry.reference.rpartition(":")
    properties = {
        "@type": "ContainerImage",
        "additionalType": {"@id": f"{_TERMS}#DockerImage"},
        "registry": "none: the image is in this data set, or built from its sources",
        "name": name,
        "tag": tag,
        "sha256": entry.ids[-1].partition(":")[2],
    }
    return _entity(made, f"#image-{entry.stack}", properties)


def _file(made: ROCrate, path: str, size: int) -> Any:
    kind = _MEDIA_TYPES.get(PurePosixPath(path).suffix, "application/octet-stream")
    properties = {"@type": "File", "name": path, "contentSize": str(size), "encodingFormat": kind}
    entity = DataEntity(made, path, properties=properties)
    return made.add(entity)
