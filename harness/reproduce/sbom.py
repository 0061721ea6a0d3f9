"""A bill of materials for each image, in CycloneDX, read from the image itself."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from harness.images.lock import debian_packages
from harness.images.oci import OciImage
from harness.images.recipe import EPOCH

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
                    yield _Distribution(message["Name"], message["Version"], _license(message))


def _license(message: Message) -> str:
    found = message["License-Expression"] or message["License"] or ""
    # Some put the whole text there.
    return found if found and "\n" not in found and len(found) < 100 else ""
