"""The labels of images, as the OCI image specification names them."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

import harness
from harness.images.docker_cli import STACK_LABEL
from harness.images.recipe import EPOCH, REPOSITORY

_OCI = "org.opencontainers.image."


def base_labels() -> dict[str, str]:
    """Return the labels of the base image."""
    return {STACK_LABEL: "base", f"{_OCI}title": f"{REPOSITORY} base", f"{_OCI}created": _CREATED}


def stack_labels(
    stack: str, root: Path, revision: str, base_name: str, base_digest: str
) -> dict[str, str]:
    """Return the labels of a stack's image.

    Args:
        stack: its name.
        root: the checkout.
        revision: hash of the package's sources in it. A commit would give the same image another
            id with each change of, say, the documentation.
        base_name: reference of the image it stands on.
        base_digest: that one's manifest digest.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    labels = {
        STACK_LABEL: stack,
        f"{_OCI}title": f"{REPOSITORY} {stack}",
        f"{_OCI}version": harness.__version__,
        f"{_OCI}revision": revision,
        f"{_OCI}created": _CREATED,
        f"{_OCI}licenses": project["license"],
        f"{_OCI}base.name": base_name,
        f"{_OCI}base.digest": base_digest,
    }
    source = project.get("urls", {}).get("Source")
    return labels | ({f"{_OCI}source": source} if source else {})


_CREATED = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH))
