"""A copy of this checkout's files, as they are here, whether committed or not."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def copy_checkout(target: Path) -> None:
    """Copy all files that git has or could have; ``target`` is made."""
    copied = (
        f"git -C '{ROOT}' ls-files -z --cached --others --exclude-standard"
        f" | tar --create --null --ignore-failed-read --directory '{ROOT}' --files-from -"
        f" | tar --extract --one-top-level='{target}'"
    )
    subprocess.run(["bash", "-c", copied], check=True)
