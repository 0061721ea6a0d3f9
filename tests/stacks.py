"""Tiny packages, an index of them, git repositories of them, and a checkout whose images need them.

Nothing of it asks a network: projects bring their own build backend, the index is a folder.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

# Everything in the project is in its wheel, so that a test sees what was built.
_BACKEND = """\
import os, zipfile
from pathlib import Path

NAME, VERSION, TAG = {name!r}, {version!r}, {tag!r}
NEEDS = {needs!r}

def build_wheel(directory, config_settings=None, metadata_directory=None):
    file = f"{{NAME}}-{{VERSION}}-{{TAG}}.whl"
    with zipfile.ZipFile(Path(directory, file), "w") as archive:
        for path in sorted(Path().rglob("*")):
            if path.is_file() and path.parts[0] != ".git":
                data = path.read_bytes()
                archive.writestr(zipfile.ZipInfo(f"files/{{os.fsencode(path).hex()}}"), data)
        info = f"{{NAME}}-{{VERSION}}.dist-info"
        text = f"Metadata-Version: 2.1\\nName: {{NAME}}\\nVersion: {{VERSION}}\\n{{NEEDS}}"
        archive.writestr(zipfile.ZipInfo(f"{{info}}/METADATA"), text)
        text = f"Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {{TAG}}\\n"
        text += f"Time: {{os.environ['SOURCE_DATE_EPOCH']}}\\n"
        archive.writestr(zipfile.ZipInfo(f"{{info}}/WHEEL"), text)
        archive.writestr(zipfile.ZipInfo(f"{{info}}/RECORD"), "")
    return file
"""
_PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "{name}"
version = "{version}"
"""
RELEASES: Mapping[tuple[str, str], str] = {
    ("dask", "2024.2.0"): "",
    ("dask", "2025.1.0"): "",
    ("dask", "2026.8.0"): "",
    ("dask", "2026.9.0"): "",
    ("distributed", "2024.2.0"): "Requires-Dist: dask==2024.2.0\n",
    ("distributed", "2025.1.0"): "Requires-Dist: dask==2025.1.0\n",
    ("distributed", "2026.8.0"): "Requires-Dist: dask==2026.8.0\n",
    ("distributed", "2026.9.0"): "Requires-Dist: dask==2026.9.0\n",
    ("proxystore", "0.8.3"): (
        "Provides-Extra: endpoints\nRequires-Dist: aiortc; extra == 'endpoints'\n"
    ),
    ("proxystore", "1.1.0"): (
        "Provides-Extra: endpoints\nRequires-Dist: aiortc; extra == 'endpoints'\n"
    ),
    ("aiortc", "1.0"): "",
    ("aiortc", "1.1"): "",
    ("psutil", "7.2"): "",
    ("packaging", "20.0"): "",
    ("packaging", "26.0"): "",
    ("codec", "3.0"): "",
}
"""What the index has: release to what its metadata adds."""


def git(place: Path, *arguments: str) -> str:
    """Run git as somebody whose settings are nobody's."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    who = {"NAME": "A", "EMAIL": "a@example.org", "DATE": "2025-06-01T00:00:00Z"}
    env = own | {
        **{
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in who.items()
        },
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    command = ["git", "-c", "protocol.file.allow=always", "-C", str(place), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, check=True)
    return os.fsdecode(done.stdout).strip()


def write_project(
    path: Path,
    name: str = "distributed",
    version: str = "2026.9.1",
    needs: str = "",
    tag: str = "py3-none-any",
) -> Path:
    """Write a project that builds without an index."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "pyproject.toml").write_text(_PROJECT.format(name=name, version=version))
    backend = _BACKEND.format(name=name, version=version, needs=needs, tag=tag)
    (path / "backend.py").write_text(backend)
    return path


def repository(path: Path, name: str = "distributed", version: str = "2026.9.1") -> Path:
    """Make a repository of a project with one commit, on branch ``main``."""
    write_project(path, name, version)
    git(path, "init", "--quiet", "--initial-branch=main")
    commit(path)
    return path


def commit(path: Path, message: str = "one") -> str:
    """Commit all there is; return the commit."""
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(path, "rev-parse", "HEAD")


def built_from(wheel: Path) -> dict[bytes, bytes]:
    """Return the files of the project that a wheel was built from, without its own two."""
    with zipfile.ZipFile(wheel) as archive:
        found = {
            bytes.fromhex(name.removeprefix("files/")): archive.read(name)
            for name in archive.namelist()
            if name.startswith("files/")
        }
    return {k: v for k, v in found.items() if k not in (b"pyproject.toml", b"backend.py")}


def write_wheel(
    folder: Path, name: str, version: str, metadata: str = "", content: str = ""
) -> Path:
    """Write a wheel of a package without code."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {
            f"{name}.py": content,
            f"{name}-{version}.dist-info/METADATA": (
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}"
            ),
            f"{name}-{version}.dist-info/WHEEL": (
                "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            ),
            f"{name}-{version}.dist-info/RECORD": "",
        }.items():
            archive.writestr(zipfile.ZipInfo(file), text)
    return path


def write_index(folder: Path) -> str:
    """Write an index of ``RELEASES``; return its address."""
    pages: dict[str, list[str]] = {}
    for (name, version), metadata in RELEASES.items():
        wheel = write_wheel(folder / "files", name, version, metadata)
        address = f"{wheel.as_uri()}#sha256={sha256(wheel)}"
        pages.setdefault(name, []).append(f'<a href="{address}">{wheel.name}</a>')
    for name, links in pages.items():
        page = folder / "simple" / name / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f"<!DOCTYPE html><html><body>{'<br>'.join(links)}</body></html>")
    return f"{(folder / 'simple').as_uri()}/"


def sha256(path: Path) -> str:
    """Return a file's hash, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lock_text(index: Path, *releases: str) -> str:
    """Return the lock of some releases of an index."""
    lines = []
    for release in releases:
        name, _, version = release.partition("==")
        hashed = sha256(index / "files" / f"{name}-{version}-py3-none-any.whl")
        lines.append(f"{release} \\\n    --hash=sha256:{hashed}\n")
    return "".join(lines)


def write_checkout(root: Path, index: Path) -> Path:
    """Write a checkout of the harness with three images and one kept variant of two of them."""
    images: Mapping[str, tuple[str, Sequence[str]]] = {
        "dask": (
            "# all\ndask\ndistributed\nproxystore>=1.1,<2  # and why\npackaging\npsutil\n",
            (
                "dask==2026.8.0",
                "distributed==2026.8.0",
                "packaging==26.0",
                "proxystore==1.1.0",
                "psutil==7.2",
            ),
        ),
        "endpoint": (
            "proxystore[endpoints]>=1.1,<2\npsutil\n",
            ("aiortc==1.0", "proxystore==1.1.0", "psutil==7.2"),
        ),
        "redis": ("psutil\n", ("psutil==7.2",)),
    }
    files = {
        "pyproject.toml": (
            '[project]\nname = "workflow-memory-harness"\nlicense = "MIT"\n'
            'dependencies = ["proxystore>=0.8.3,<2", "psutil>=7"]\n'
            "[project.optional-dependencies]\n"
            'dask = ["dask>=2024.3", "distributed>=2024.3"]\nstacks = ["packaging>=24"]\n'
        ),
        "images/Dockerfile": "FROM base",
        "images/image.toml": 'user = "1:1"\ncommand = ["python"]\n[environment]\nHOME = "/tmp"\n',
        "images/base/base.toml": (
            'reference = "python:{python}-{suite}"\npackages = ["python3"]\n'
            "path_exclude = []\npath_include = []\n"
            '[python]\n"3.13" = "trixie"\n"3.11" = "bookworm"\n'
        ),
        "images/base/customize.sh": "true",
        "images/stacks/paper/words.txt": (
            "# what a paper pins\ndask==2025.1.0\ndistributed==2025.1.0\nproxystore==0.8.3\n"
        ),
        "images/stacks/paper/dask.lock": lock_text(
            index, "dask==2025.1.0", "distributed==2025.1.0", "proxystore==0.8.3", "psutil==7.2"
        ),
        "images/stacks/paper/endpoint.lock": lock_text(
            index, "aiortc==1.0", "proxystore==0.8.3", "psutil==7.2"
        ),
        "harness/__init__.py": "",
    }
    for stack, (needs, releases) in images.items():
        files[f"images/{stack}/requirements.in"] = needs
        files[f"images/{stack}/requirements.lock"] = lock_text(index, *releases)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
