"""Images that are there are used, the others are built or fetched: nothing is built twice."""

from __future__ import annotations

import fcntl
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.core.errors import InfrastructureError, UsageError
from harness.images import docker_cli, recipe
from harness.images.archive import save
from harness.images.base import ensure_base, find_base, load
from harness.images.build import Base, Wanted, build_image, fetch_packages, wanted
from harness.images.lock import FILE, ImagesLock
from harness.images.oci import OciImage
from harness.images.packages import DEBIAN, WHEELS, Packages
from harness.images.recipe import build_directory
from harness.images.variant import Variant, kept, kept_names

# Most of a build's time is one process that compiles, or waits for an index.
_BUILDERS = 2


@dataclass(frozen=True)
class Image:
    """A stack's image, present in the engine."""

    stack: str
    reference: str
    """``workflow-memory-harness/<stack>:<input hash>``."""
    id: str
    """Digest of its configuration in a classic store, of its manifest in containerd's."""
    size_bytes: int
    layers: tuple[str, ...] = ()
    """Digests of its layers, lowest first, the base's included: the same in every store."""


def known_stacks() -> list[str]:
    """Return the names of all stacks of this checkout."""
    return recipe.known_stacks(recipe.repository_root())


def known_images() -> list[str]:
    """Return the names of this checkout's images: ``dask``, ``psbench/dask`` of a kept variant."""
    return _known_images(recipe.repository_root())


def _known_images(root: Path) -> list[str]:
    found = {name: _kept(root, name).locks for name in kept_names(root)}
    return [
        *recipe.known_stacks(root),
        *(f"{name}/{stack}" for name, locks in found.items() for stack in sorted(locks)),
    ]


def _kept(root: Path, name: str) -> Variant:
    own, *_ = recipe.pythons(root)
    found = kept(root, name, own)
    if found is None:
        raise UsageError(f"unknown variant {name!r}: one of {', '.join(kept_names(root))}")
    return found


def _grouped(root: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Return kept variant, or nothing, to the stacks that some names are of.

    Raises:
        UsageError: if there is no such image.
    """
    known, found = _known_images(root), dict[str, list[str]]()
    for name in dict.fromkeys(names):
        if name not in known:
            raise UsageError(f"unknown image {name!r}: one of {', '.join(known)}")
        variant, _, stack = name.rpartition("/")
        found.setdefault(variant, []).append(stack)
    return found


def wanted_images(
    root: Path, names: Sequence[str], base_name: str, base_layers: tuple[str, ...]
) -> dict[str, Wanted]:
    """Return what is to be there for names of :func:`known_images`, in their order.

    Args:
        root: the checkout.
        names: of images.
        base_name: what the base is called.
        base_layers: digests of the base's layers.

    Raises:
        UsageError: if there is no such image.
    """
    found = {}
    for variant, stacks in _grouped(root, names).items():
        other = _kept(root, variant) if variant else None
        base = recipe.base_recipe(root)
        recipes = _Recipes(root, base, _files(root, stacks, other), is_variant=other is not None)
        for item in recipes.wanted(base_name, base_layers):
            found[f"{variant}/{item.stack}".lstrip("/")] = item
    return {name: found[name] for name in dict.fromkeys(names)}


def _files(
    root: Path, stacks: Sequence[str], variant: Variant | None
) -> dict[str, dict[str, bytes]]:
    files = {stack: recipe.stack_files(root, stack) for stack in dict.fromkeys(stacks)}
    locks = variant.locks if variant is not None else {}
    return {
        stack: own | ({"requirements.lock": locks[stack]} if stack in locks else {})
        for stack, own in files.items()
    }


def ensure_images(
    names: Sequence[str], say: Callable[[str], None], packages: Packages | None = None
) -> dict[str, Image]:
    """Return images by their names, those of kept variants too, as :func:`ensure` does.

    Args:
        names: some of :func:`known_images`.
        say: told, one line each, what is being built.
        packages: as there.

    Raises:
        UsageError: if there is no such image.
        InfrastructureError: as there.
    """
    root = recipe.repository_root()
    found: dict[str, Image] = {}
    for variant, stacks in _grouped(root, names).items():
        other = _kept(root, variant) if variant else None
        images = ensure(stacks, say, packages, other)
        found |= {f"{variant}/{stack}".lstrip("/"): images[stack] for stack in stacks}
    return {name: found[name] for name in dict.fromkeys(names)}


def stacks_files(stacks: Sequence[str]) -> dict[str, dict[str, bytes]]:
    """Return what each stack is made of.

    Raises:
        UsageError: if there is no such stack.
    """
    root = recipe.repository_root()
    return {stack: recipe.stack_files(root, stack) for stack in dict.fromkeys(stacks)}


def ensure(
    stacks: Sequence[str],
    say: Callable[[str], None],
    packages: Packages | None = None,
    variant: Variant | None = None,
) -> dict[str, Image]:
    """Return the images of these stacks; those that do not exist are built first.

    An image is named by the hash of what it is made of (Dockerfile, lock, the package's
    sources, base image), so an existing tag is an unchanged image. ``:latest`` follows.

    Args:
        stacks: folder names below ``images/``.
        say: told, one line each, what is being built.
        packages: packages to build from, instead of what mirror and index have.
        variant: replaces the locks of some of them.

    Raises:
        UsageError: if there is no such stack.
        InfrastructureError: if the engine does not answer or a build fails.
    """
    root = recipe.repository_root()
    files = _files(root, stacks, variant)
    if variant is None:
        return _ensure(_Recipes(root, recipe.base_recipe(root), files), say, packages)
    other = {stack: own for stack, own in files.items() if stack in variant.locks}
    same = {stack: own for stack, own in files.items() if stack not in other}
    found = _ensure(_Recipes(root, recipe.base_recipe(root), same), say, packages) if same else {}
    if not other:
        return found
    base = recipe.base_recipe(root, variant.python)
    return found | _ensure(_Recipes(root, base, other, variant.wheel_files(), True), say, packages)


@dataclass(frozen=True)
class _Recipes:
    """What some images on one base are made of."""

    root: Path
    base: recipe.BaseRecipe
    files: Mapping[str, Mapping[str, bytes]]
    wheels: Mapping[str, bytes] = field(default_factory=dict)
    is_variant: bool = False

    def wanted(self, base_name: str, base_layers: tuple[str, ...]) -> list[Wanted]:
        items = wanted(self.root, self.files, base_name, base_layers)
        if not self.is_variant:
            return items
        return [replace(item, wheels=self.wheels, is_variant=True) for item in items]


def _ensure(
    recipes: _Recipes, say: Callable[[str], None], packages: Packages | None
) -> dict[str, Image]:
    root, files = recipes.root, recipes.files
    known = _known_base(root, recipes.base)
    if known:
        images = present(recipes.wanted(*known))
        if len(images) == len(files):
            return images

    with build_lock(root, say) as work:
        repository = packages.repository(recipes.base) if packages else None
        reference, local = ensure_base(recipes.base, work, say, repository)
        items = recipes.wanted(reference, local.layers)
        # Another invocation may have built some while this one waited for the lock.
        found = present(items)
        missing = [item for item in items if item.stack not in found]
        with tempfile.TemporaryDirectory(dir=work, prefix="layers-") as directory:
            if missing:
                base = saved_base(reference, Path(directory))
                offline = packages.context(recipes.base) if packages else {}
                _build_all(missing, base, _Site(root, Path(directory), work, say), offline)
        images = present(items)
    if len(images) != len(files):
        lost = sorted(set(files) - set(images))[0]
        raise InfrastructureError(f"image {lost}: built, but the engine does not have it")
    return images


def there() -> dict[str, Image]:
    """Return the images of this checkout that the engine has, by stack; nothing is built.

    Raises:
        InfrastructureError: if the engine does not answer.
    """
    root = recipe.repository_root()
    known = _known_base(root, recipe.base_recipe(root))
    return present(wanted(root, stacks_files(known_stacks()), *known)) if known else {}


def purposes() -> dict[str, str]:
    """Return what images that may be there are for: ``this checkout``, or a kept variant's name.

    Returns:
        By reference; images of other checkouts and variants are not in it.

    Raises:
        InfrastructureError: if the engine does not answer.
    """
    root = recipe.repository_root()
    known = _known_base(root, recipe.base_recipe(root))
    if known is None:
        return {}
    items = wanted_images(root, _known_images(root), *known)
    found = {item.reference: name.rpartition("/")[0] for name, item in items.items()}
    return {name: of or "this checkout" for name, of in {known[0]: "", **found}.items()}


def _known_base(root: Path, base_recipe: recipe.BaseRecipe) -> tuple[str, tuple[str, ...]] | None:
    """Return the base's name and layers; images that were pulled come without it."""
    found = find_base(base_recipe)
    if found:
        return found[0], found[1].layers
    locked = ImagesLock.read(root / FILE).architectures.get(base_recipe.architecture)
    if locked is None or locked.base.recipe != base_recipe.hash or "BASE_IMAGE" in os.environ:
        return None
    return base_recipe.local_reference, tuple(layer.digest for layer in locked.base.layers)


def installed() -> list[Image]:
    """Return all images of ours that the engine has, the base and older ones included.

    Raises:
        InfrastructureError: if the engine does not answer.
    """
    images = []
    for local in docker_cli.labelled():
        stack = local.labels[docker_cli.STACK_LABEL]
        hashed = [tag for tag in local.tags if not tag.endswith(":latest")]
        reference = next(iter([*hashed, *local.tags]), local.id)
        images.append(Image(stack, reference, local.id, local.size_bytes, local.layers))
    return sorted(images, key=lambda image: (image.stack, image.reference))


def present(items: Sequence[Wanted]) -> dict[str, Image]:
    """Return those images the engine has, with ``:latest`` on each."""
    found = docker_cli.inspect([item.reference for item in items])
    images = {}
    for item in items:
        local = next((image for image in found if item.reference in image.tags), None)
        if local is None:
            continue
        if item.latest is not None and item.latest not in local.tags:
            docker_cli.tag(item.reference, item.latest)
        images[item.stack] = Image(
            item.stack, item.reference, local.id, local.size_bytes, local.layers
        )
    return images


def saved_base(reference: str, directory: Path) -> Base:
    """Take the base's layers out of the engine: a stack's image is put together on them."""
    (image,) = save([reference], directory)
    return Base(reference, image, reference)


@dataclass(frozen=True)
class _Site:
    """Where something is built, and who is told."""

    root: Path
    directory: Path
    work: Path
    say: Callable[[str], None]


def _build_all(
    items: Sequence[Wanted], base: Base, site: _Site, offline: Mapping[str, bytes]
) -> None:
    """Build and load; what was built before a failure is loaded too."""
    built: list[OciImage] = []

    def build(item: Wanted) -> None:
        log = site.work / f"{item.stack}.log"
        site.say(f"image {item.stack}: building (log: {log})")
        begin = time.monotonic()
        built.append(build_image(item, base, site.root, site.directory, log, offline=offline))
        site.say(f"image {item.stack}: built in {time.monotonic() - begin:.0f} s")

    try:
        # The first alone: what all stacks share, the package's layer, is then in the cache.
        build(items[0])
        with ThreadPoolExecutor(_BUILDERS) as pool:
            list(pool.map(build, items[1:]))
    finally:
        if built:
            load(built, site.work)


@contextmanager
def build_lock(root: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """Hold a lock between processes; the kernel releases it if this one dies.

    Yields:
        A directory for logs and intermediate files.
    """
    work = build_directory(root)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfrastructureError(f"{work}: cannot be created: {error.strerror}") from error
    with (work / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("images: waiting for another invocation that is building them")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield work


_SUFFIXES = {DEBIAN: ".deb", WHEELS: ".whl"}


def fetch(stacks: Sequence[str], directory: Path, say: Callable[[str], None]) -> None:
    """Download the Debian packages and wheels of stacks and their base.

    Args:
        stacks: folder names below ``images/``.
        directory: where they are written; must not exist.
        say: told, one line each, what is being fetched.

    Raises:
        UsageError: if the directory exists or cannot be made.
        InfrastructureError: if something cannot be had any more.
    """
    root = recipe.repository_root()
    files = stacks_files(stacks)
    try:
        directory.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{directory}: {error.strerror}; name a directory to be made") from None
    for name in _SUFFIXES:
        (directory / name).mkdir()
    with build_lock(root, say) as work, tempfile.TemporaryDirectory(dir=work) as scratch:
        reference, local = ensure_base(recipe.base_recipe(root), work, say)
        base = saved_base(reference, Path(scratch))
        for item in wanted(root, files, reference, local.layers):
            say(f"image {item.stack}: fetching its packages")
            tree = Path(scratch) / f"{item.stack}.tar"
            fetch_packages(item, base, tree, work / f"fetch-{item.stack}.log")
            _take(tree, directory)
            tree.unlink()


def _take(tree: Path, directory: Path) -> None:
    with tarfile.open(tree, "r:") as tar:
        for member in tar:
            folder, _, name = member.name.strip("/").partition("/")
            if member.isreg() and name.endswith(_SUFFIXES.get(folder, "/")) and "/" not in name:
                file = tar.extractfile(member)
                assert file is not None
                (directory / folder / name).write_bytes(file.read())
