"""What runs in containers with few packages imports no others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.images.store import known_stacks

IMAGES = Path(__file__).parent.parent.parent / "images"
# Imports a module where only the standard library and some packages can be imported.
CODE = """
import importlib, importlib.abc, sys

class Only(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in {"harness", *sys.argv[2:]}:
            return None
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Only())
importlib.import_module(sys.argv[1])
"""


@pytest.mark.parametrize(
    ("image", "module"),
    [
        ("redis", "harness.core.redis_server"),
        ("redis", "harness.sampling.inside.__main__"),
        ("redis", "harness.sampling.inside.sampler"),
        ("redis", "harness.sampling.inside.service"),
        ("rabbitmq", "harness.globus_service.rabbitmq"),
        ("rabbitmq", "harness.sampling.inside.sampler"),
        ("rabbitmq", "harness.sampling.inside.service"),
        ("endpoint", "harness.sampling.inside.sampler"),
        ("globus_service", "harness.sampling.inside.sampler"),
        # Whichever is the smallest, the agent starts from it.
        *((image, "harness.sampling.agent.__main__") for image in known_stacks()),
    ],
)
def test_a_service_needs_no_package_that_its_image_lacks(image: str, module: str) -> None:
    lines = (IMAGES / image / "requirements.in").read_text().splitlines()
    words = [line.partition("#")[0].strip() for line in lines]
    packages = [word.split("=")[0].split(">")[0].split("[")[0] for word in words if word]
    names = [package.replace("-", "_") for package in packages]
    done = subprocess.run(
        [sys.executable, "-c", CODE, module, *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr.splitlines()[-1]
