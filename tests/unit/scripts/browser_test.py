"""What scripts/browser decides, on a machine made of stand-in commands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "browser"
TOOLS = ("bash", "dirname", "head", "mktemp", "rm", "sed", "tail")
DEBIAN = 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
UBUNTU = 'ID=ubuntu\nID_LIKE=debian\nPRETTY_NAME="Ubuntu 24.04 LTS"\n'
FEDORA = 'ID=fedora\nPRETTY_NAME="Fedora Linux 42"\n'

# Installs both programs, unless the package is only a hint at a snap, and writes down its calls.
APT_GET = """
echo "$*" >>"$PLACE/calls"
if [[ "$*" == *install* && ! -e "$PLACE/snaps" ]]; then
    for program in chromium chromedriver firefox-esr; do
        cp "$PLACE/bin/id" "$PLACE/bin/$program"
    done
fi
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "etc").mkdir()
    for tool in (*TOOLS, "cp"):
        found = shutil.which(tool)
        assert found is not None, tool
        (tmp_path / "bin" / tool).symlink_to(found)
    _put(tmp_path, "id", "echo 0")
    _put(tmp_path, "apt-get", APT_GET)
    (tmp_path / "etc/os-release").write_text(DEBIAN)
    return tmp_path


def _put(place: Path, name: str, body: str) -> None:
    path = place / "bin" / name
    path.write_text(f"#!{shutil.which('bash')}\nPLACE={place}\n{body}\n")
    path.chmod(0o755)


def _run(place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [place / "bin/bash", SCRIPT],
        env={"PATH": str(place / "bin"), "HARNESS_SYSTEM_ROOT": str(place)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_browser_that_is_there_is_left_alone(place: Path) -> None:
    for name in ("chromium", "chromedriver", "firefox-esr"):
        _put(place, name, "")
    done = _run(place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (place / "calls").exists()


def test_debian_gets_all_packages_and_nothing_upgraded(place: Path) -> None:
    done = _run(place)
    assert (done.returncode, done.stderr) == (0, "")
    installing = (place / "calls").read_text().splitlines()[-1]
    assert installing.endswith(
        "install --no-install-recommends --no-upgrade chromium chromium-driver firefox-esr"
        " fonts-dejavu-core"
    )


def test_without_root_one_line_says_what_to_install(place: Path) -> None:
    _put(place, "id", "echo 1000")
    done = _run(place)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "'apt-get install chromium chromium-driver firefox-esr' as root" in done.stderr
    assert not (place / "calls").exists()


def test_other_systems_are_named(place: Path) -> None:
    (place / "etc/os-release").write_text(FEDORA)
    done = _run(place)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "Fedora Linux 42 is not Debian" in done.stderr


def test_packages_that_are_only_snaps_are_said(place: Path) -> None:
    (place / "etc/os-release").write_text(UBUNTU)
    (place / "snaps").touch()
    done = _run(place)
    assert done.returncode == 3
    assert "Ubuntu's are snaps" in done.stderr
