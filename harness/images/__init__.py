"""The images topologies start: what one is made of, and building those that are not there.

A stack is a folder ``images/<stack>/``; nothing here names one.
"""

from harness.images.store import Image, ensure, installed, known_stacks

__all__ = ["Image", "ensure", "installed", "known_stacks"]
