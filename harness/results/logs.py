"""Logging with the reference's levels and format."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

TEST = 21
BENCH = 22


def init_logging(log_file: Path, level: str, file_level: str) -> None:
    """Send log records to standard output and to a file.

    Args:
        log_file: appended to.
        level: least level shown.
        file_level: least level written.
    """
    logging.addLevelName(TEST, "TEST")
    logging.addLevelName(BENCH, "BENCH")
    shown = logging.StreamHandler(sys.stdout)
    shown.setLevel(level)
    written = logging.FileHandler(log_file)
    written.setLevel(file_level)
    logging.basicConfig(
        format="[%(asctime)s.%(msecs)03d] %(levelname)-5s (%(name)s) :: %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
        level=logging.DEBUG if "DEBUG" in (level, file_level) else logging.INFO,
        handlers=[shown, written],
        force=True,
    )
