"""Images as directories, and processes in them: what an ordinary user has without an engine.

An image's layers, whose digests make its id, are unpacked one over the other into a directory.
bubblewrap or Apptainer shows it to a process as its root directory, read-only, with a process
tree of its own. The network is the machine's.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.core.errors import InfrastructureError
from harness.images.oci import OciImage, file_digest

RUNTIMES = ("bwrap", "apptainer")
RUN, STORE, SECRETS, POOLS = "/harness/run", "/harness/store", "/harness/secrets", "/harness/parsl"
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
# What is mounted over: a directory that is shown read-only cannot get new ones.
_DIRECTORIES = ("dev", "proc", "sys", "tmp", *(p[1:] for p in (RUN, STORE, SECRETS, POOLS)))
# Names of machines: the network is theirs.
_FILES = ("etc/hosts", "etc/resolv.conf")


def unpack(image: OciImage, tree: Path) -> None:
    """Make a directory of an image; each layer must have the digest that it is called by.

    Raises:
        InfrastructureError: if a layer has another, or what would lie outside of the directory.
        OSError: if it cannot be written.
    """
    tree.mkdir(parents=True)
    for layer in image.layers:
        if file_digest(layer.path) != layer.digest:
            raise InfrastructureError(f"{layer.path}: is not the layer {layer.digest[:19]}")
        try:
            _unpack_layer(layer.path, tree)
        except tarfile.TarError as error:
            raise InfrastructureError(f"layer {layer.digest[:19]}: {error}") from None
    for name in _DIRECTORIES:
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            path.unlink()
        path.touch()


def _unpack_layer(layer: Path, tree: Path) -> None:
    with tarfile.open(layer, "r:") as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            _require_inside(tree, name)
            if name.name == _OPAQUE:
                for path in (tree / name.parent).iterdir():
                    _remove(path)
            elif name.name.startswith(_WHITEOUT):
                _remove(tree / name.with_name(name.name.removeprefix(_WHITEOUT)))
            else:
                path = tree / name
                if path.is_symlink() or (path.exists() and not (path.is_dir() and member.isdir())):
                    _remove(path)
                if member.isdev():
                    continue  # only root makes them, and the runtime brings its own
                member.mode = (member.mode or 0) | (0o700 if member.isdir() else 0o400)
                # The filter lets nothing out of the directory, by links either.
                tar.extract(member, tree, filter="tar")


def _require_inside(tree: Path, name: PurePosixPath) -> None:
    """Refuse what leads out of the tree: what is there would be replaced, or removed."""
    above = Path(os.path.realpath(tree / name.parent))
    removed = name.name.removeprefix(_WHITEOUT)
    strange = name.is_absolute() or ".." in (*name.parts, removed) or removed in ("", ".")
    if (strange and name.parts) or not above.is_relative_to(tree.resolve()):
        raise tarfile.TarError(f"{str(name)[:200]!r} leads out of the image")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Rooms:
    """Unpacked images, and the program that starts processes in them.

    Attributes:
        runtime: one of :data:`RUNTIMES`.
        trees: image stack -> its directory, where every node sees it.
        environments: image stack -> the variables that the image sets.
    """

    runtime: str
    trees: Mapping[str, Path]
    environments: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, runtime: str, images: Mapping[str, OciImage], directory: Path) -> Rooms:
        """Unpack images into a directory.

        Raises:
            InfrastructureError: if there is no such program here; as :func:`unpack`.
        """
        if shutil.which(runtime) is None:
            package = "bubblewrap" if runtime == "bwrap" else runtime
            raise InfrastructureError(f"--runtime {runtime}: is not in PATH: install {package}")
        for stack, image in images.items():
            unpack(image, directory / stack)
        environments = {}
        for stack, image in images.items():
            words = (image.document.get("config") or {}).get("Env") or []
            environments[stack] = dict(str(word).split("=", 1) for word in words if "=" in word)
        return cls(runtime, {stack: directory / stack for stack in images}, environments)

    def command(
        self,
        stack: str,
        binds: Mapping[str, str],
        environment: Mapping[str, str],
        command: Sequence[str],
    ) -> list[str]:
        """Return the command line that starts a command in an image's directory.

        Args:
            stack: of the image.
            binds: directory here -> where it is in there.
            environment: variables, beside the image's own.
            command: what to start.
        """
        variables = {**self.environments[stack], "HOME": "/tmp", **environment}  # noqa: S108
        make = _bwrap if self.runtime == "bwrap" else _apptainer
        return make(str(self.trees[stack]), binds, variables, command)


def _bwrap(
    tree: str, binds: Mapping[str, str], environment: Mapping[str, str], command: Sequence[str]
) -> list[str]:
    words = ["bwrap", "--unshare-pid", "--as-pid-1", "--unshare-ipc", "--die-with-parent"]
    words += ["--clearenv", "--ro-bind", tree, "/"]
    words += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]  # noqa: S108
    for name in _FILES:
        words += ["--ro-bind-try", f"/{name}", f"/{name}"]
    for here, there in binds.items():
        words += ["--bind", here, there]
    for key, value in environment.items():
        words += ["--setenv", key, value]
    return [*words, "--chdir", "/", "--", *command]


def _apptainer(
    tree: str, binds: Mapping[str, str], environment: Mapping[str, str], command: Sequence[str]
) -> list[str]:
    words = ["apptainer", "--silent", "exec", "--containall", "--no-home", "--cleanenv"]
    # Without this flag a shell replaces what is $HOME or `date` in a value.
    words += ["--no-eval", "--pwd", "/"]
    for here, there in binds.items():
        words += ["--bind", f"{here}:{there}"]
    # It reads --env as a row of a CSV file, where there is more than one '=' in it: a value with a
    # comma would be cut in two. It does not let HOME be set.
    row = io.StringIO()
    pairs = (f"{key}={value}" for key, value in environment.items() if key != "HOME")
    csv.writer(row, quoting=csv.QUOTE_ALL, lineterminator="").writerow(pairs)
    return [*words, "--env", row.getvalue(), tree, *command]
