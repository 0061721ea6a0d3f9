"""Python imports this by itself in each process of a traced topology (``PYTHONPATH``).

It is in a folder of its own, so that nothing else is found there.
"""

from __future__ import annotations

import os
import sys

if os.environ.get("HARNESS_ATTENDING"):
    _root = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))  # noqa: PTH100, PTH118, PTH120  # pathlib takes 10 ms in each process
    # First: another version may be installed.
    sys.path.insert(0, _root)
    try:
        from harness.core.attend import attend

        attend()
    except Exception as error:  # noqa: BLE001  # whatever runs here runs without
        sys.stderr.write(f"harness: this process is not traced: {error!r}\n")
    finally:
        del sys.path[0]
