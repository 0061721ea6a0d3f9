"""The command line: one small file per command, each parses, calls and prints."""

from harness.core.environment import put_foreign_last

# Before the commands import anything else.
put_foreign_last()
