"""Print what a shell needs to complete commands and flags with the tabulator key."""

from __future__ import annotations

from collections.abc import Sequence

from argcomplete.shell_integration import shellcode

from harness.cli._parser import Parser

SHELLS = ("bash", "zsh", "fish")


def main(argv: Sequence[str]) -> int:
    """Parse, print."""
    parser = Parser(
        prog="harness completion",
        description=f'{__doc__}\n\nIn bash and zsh: eval "$(harness completion bash)", or zsh.'
        "\nIn fish: harness completion fish | source.",
        example='eval "$(harness completion bash)"',
    )
    parser.add_argument("shell", choices=SHELLS, help="which shell asks")
    args = parser.parse_args(argv)
    print(shellcode(["harness"], shell=args.shell))
    return 0
