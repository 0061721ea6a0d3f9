"""What scripts/venv decides."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.machine import SCRIPTS, Machine


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The part of a checkout that scripts/venv looks at, with an environment that is ready."""
    path = tmp_path / "checkout"
    shutil.copytree(SCRIPTS, path / "scripts")
    (path / "requirements.lock").touch()
    (path / "requirements-dev.lock").touch()
    (path / "pyproject.toml").touch()
    return path


def run_venv(
    checkout: Path, machine: Machine, *profile: str, **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [machine.bin / "bash", checkout / "scripts/venv", *profile],
        env=machine.env | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# A Python of the given version that has no ensurepip, as on a bare Debian.
PYTHON = r"""
case "$*" in
    *ensurepip*) [ -e "$STATE/ensurepip" ] ;;
    *version_info*\<*) exit %(old)d ;;
    *'%%d.%%d'*) echo 3.13 ;;
    *sys.prefix*) echo /usr ;;
    --version) echo "Python %(version)s" ;;
    '-m venv --clear .venv') mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
esac
"""


def test_an_old_python_is_named(checkout: Path, machine: Machine) -> None:
    machine.put("python3", PYTHON % {"old": 1, "version": "3.9.2"})
    done = run_venv(checkout, machine)
    assert done.returncode == 3
    assert done.stderr == (
        "venv: Python 3.9.2 is too old: Python 3.11 or newer is needed, name one with PYTHON=...\n"
    )


def test_a_missing_python_is_named(checkout: Path, machine: Machine) -> None:
    done = run_venv(checkout, machine, PYTHON="python3.13")
    assert done.returncode == 3
    assert "python3.13 is not on PATH" in done.stderr


def test_without_root_the_venv_package_is_named(checkout: Path, machine: Machine) -> None:
    machine.put("python3", PYTHON % {"old": 0, "version": "3.13.5"})
    machine.user(1000)
    done = run_venv(checkout, machine)
    assert done.returncode == 3
    assert "'apt-get install python3.13-venv' as root" in done.stderr


def test_the_environment_is_made_once(checkout: Path, machine: Machine) -> None:
    machine.put("python3", PYTHON % {"old": 0, "version": "3.13.5"})
    done = run_venv(checkout, machine)
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.installed() == ["python3.13-venv"]
    _, lock, package = (line for line in machine.calls("python3") if " pip " in line)
    assert "--require-hashes --no-deps --only-binary :all: -r requirements.lock" in lock
    assert "--no-deps --no-build-isolation --no-index --editable ." in package

    before = machine.calls("python3")
    done = run_venv(checkout, machine)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.calls("python3") == before

    (checkout / "requirements.lock").write_text("changed")
    assert "installing requirements.lock" in run_venv(checkout, machine).stdout


def test_a_bench_environment_grows_and_a_full_one_serves_for_both(
    checkout: Path, machine: Machine
) -> None:
    machine.put("python3", PYTHON % {"old": 0, "version": "3.13.5"})
    assert "installing requirements.lock" in run_venv(checkout, machine, "bench").stdout
    assert "installing requirements-dev.lock" in run_venv(checkout, machine, "full").stdout
    for profile in ("bench", "full"):
        assert run_venv(checkout, machine, profile).stdout == ""
    # What tests and checks use may change without those who only bench installing anything.
    (checkout / "requirements-dev.lock").write_text("changed")
    assert "installing requirements.lock" in run_venv(checkout, machine, "bench").stdout
    (checkout / "requirements-dev.lock").write_text("changed again")
    assert run_venv(checkout, machine, "bench").stdout == ""


def test_an_unknown_profile_is_named(checkout: Path, machine: Machine) -> None:
    done = run_venv(checkout, machine, "everything")
    assert (done.returncode, done.stderr) == (
        2,
        "venv: everything: there is no such profile: bench or full\n",
    )


def test_both_locks_pin_the_same_versions_and_name_no_index() -> None:
    found = []
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (SCRIPTS.parent / name).read_text()
        assert "://" not in text
        found.append({line.split()[0] for line in text.splitlines() if line[:1].isalnum()})
    light, full = found
    assert light <= full
    assert len(light) <= 60
