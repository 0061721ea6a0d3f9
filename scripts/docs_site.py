"""Put into the documentation's site what lies beside ``docs/``; mkdocs.yml names this file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parent.parent
_ELSEWHERE = {
    "images/README.md": "images.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "LICENSE.txt",
    "CITATION.cff": "CITATION.cff",
}
"""Files of the repository, and what they are called in the site."""

_SHIM = "https://unpkg.com/iframe-worker/shim"


def on_files(files: Files, config: Any) -> Files:
    """Add pages and files that have their place elsewhere in the repository."""
    for path, name in _ELSEWHERE.items():
        text = (_ROOT / path).read_text(encoding="utf-8")
        if name.endswith(".md"):
            text = _inside(text)
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to files outside of ``docs/`` lead to what the site has of them."""
    # `make docs` puts it there, beside what MkDocs knows of.
    markdown = markdown.replace(
        "`build/docs/measured/`", '<a href="measured/index.html">measured/</a>'
    )
    return re.sub(r"\]\(\.\./([^)#]+)", _renamed, markdown)


def on_post_page(output: str, **_: Any) -> str:
    """Take what searches from disk from beside the page, and not from another host."""
    return output.replace(_SHIM, "vendor/iframe-worker.js")


def on_post_template(output_content: str, **_: Any) -> str:
    """Do the same for the page of a missing page, whose addresses begin at the site's top."""
    return output_content.replace(_SHIM, "/vendor/iframe-worker.js")


def _inside(markdown: str) -> str:
    """Return a page from elsewhere, with its links to ``docs/`` as from within."""
    return re.sub(r"\]\((?:\.\./)?docs/", "](", markdown)


def _renamed(link: re.Match[str]) -> str:
    return f"]({_ELSEWHERE.get(link[1], link[0][2:])}"
