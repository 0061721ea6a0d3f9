"""The first file in which two layers differ."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from harness.topology.images.oci import OciImage


def first_difference(one: OciImage, other: OciImage) -> str | None:
    """Return a line that names the first file in which two builds of an image differ.

    Args:
        one: an image.
        other: another build of it.

    Returns:
        None if all layers and the configuration are the same.
    """
    for mine, theirs in zip(one.layers, other.layers, strict=False):
        if mine.digest != theirs.digest:
            found = first_different_entry(mine.path, theirs.path)
            return f"layer {mine.created_by}: {found}"
    if len(one.layers) != len(other.layers):
        return f"{len(one.layers)} layers and {len(other.layers)}"
    if one.config != other.config:
        mine_document, theirs_document = one.document, other.document
        keys = sorted({*mine_document, *theirs_document})
        key = next(k for k in keys if mine_document.get(k) != theirs_document.get(k))
        return f"configuration: {key}: {mine_document.get(key)} and {theirs_document.get(key)}"
    return None


def first_different_entry(one: Path, other: Path) -> str:
    """Return what is different about the first entry in which two layer tars differ."""
    with tarfile.open(one, "r:") as mine, tarfile.open(other, "r:") as theirs:
        entries = {member.name: member for member in mine}
        others = {member.name: member for member in theirs}
        for name in sorted({*entries, *others}):
            if name not in others:
                return f"/{name} is in one only"
            if name not in entries:
                return f"/{name} is in the other only"
            what = _what_differs(mine, entries[name], theirs, others[name])
            if what:
                return f"/{name}: {what}"
    return "the same files in other headers or another order"


def _what_differs(
    mine: tarfile.TarFile, one: tarfile.TarInfo, theirs: tarfile.TarFile, other: tarfile.TarInfo
) -> str | None:
    for field in ("type", "linkname", "mode", "uid", "gid", "size", "mtime", "pax_headers"):
        values = getattr(one, field), getattr(other, field)
        if values[0] != values[1]:
            shown = [f"{value:o}" if field == "mode" else f"{value!r}" for value in values]
            return f"{field} {shown[0]} and {shown[1]}"
    if _content(mine, one) != _content(theirs, other):
        return "other content"
    return None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member) if member.isreg() else None
    return hashlib.sha256(file.read()).digest() if file is not None else b""
