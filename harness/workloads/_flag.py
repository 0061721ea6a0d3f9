"""The flag that several workloads share."""

from harness.core.flags import Flag

WORKFLOW = Flag(
    "--workflow",
    "what is run: for wfformat an instance of WfFormat 1.3 to 1.6 (JSON file), for python a"
    " function, as MODULE:FUNCTION or FILE.py:FUNCTION",
    "WHAT",
)
