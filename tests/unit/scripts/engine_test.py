"""What scripts/engine decides."""

import os
import time
from pathlib import Path

import pytest

from tests.machine import DEBIAN_13, DOCKERD, FEDORA, SYSTEMCTL, UBUNTU, Machine

CHANGES = ("apt-get", "dpkg-deb", "dockerd", "systemctl", "chown")


def test_a_working_engine_is_left_alone(machine: Machine) -> None:
    machine.client()
    machine.plugins()
    machine.flag("up")
    for engine in ("", "none"):
        done = machine.engine(ENGINE=engine)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.calls(*CHANGES) == []
    assert list((machine.root / "run").iterdir()) == []


def test_engine_none_installs_and_starts_nothing(machine: Machine) -> None:
    machine.client()
    machine.put("dockerd", DOCKERD)
    done = machine.engine(ENGINE="none")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "ENGINE=none forbids" in done.stderr
    assert machine.calls(*CHANGES) == []


def test_engine_none_forbids_plugins_too(machine: Machine) -> None:
    machine.client()
    machine.flag("up")
    done = machine.engine(ENGINE="none")
    assert done.returncode == 3
    assert "docker compose buildx is missing and ENGINE=none" in done.stderr
    assert machine.calls(*CHANGES) == []


def test_without_root_one_line_says_what_to_install(machine: Machine) -> None:
    machine.user(1000)
    done = machine.engine()
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "install docker.io (engine), compose v2 and buildx" in done.stderr
    assert machine.calls(*CHANGES) == []


def test_another_system_is_named(machine: Machine) -> None:
    machine.system(FEDORA)
    (machine.bin / "apt-get").unlink()
    done = machine.engine()
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "Fedora Linux 42 is neither Debian nor Ubuntu" in done.stderr


def test_another_system_with_an_engine_that_is_down_gets_it_started(machine: Machine) -> None:
    machine.system(FEDORA)
    (machine.bin / "apt-get").unlink()
    machine.client()
    machine.plugins()
    machine.put("dockerd", DOCKERD)
    assert machine.engine().returncode == 0


@pytest.mark.parametrize(
    ("variables", "context", "reason"),
    [
        ({"DOCKER_HOST": "tcp://192.0.2.1:2375"}, "default", "DOCKER_HOST=tcp://192.0.2.1:2375"),
        ({}, "elsewhere", "in the Docker context elsewhere"),
    ],
)
def test_an_engine_elsewhere_is_not_replaced(
    machine: Machine, variables: dict[str, str], context: str, reason: str
) -> None:
    machine.client()
    machine.flag("context", context)
    done = machine.engine(**variables)
    assert done.returncode == 3
    assert reason in done.stderr
    assert machine.calls(*CHANGES) == []


def test_debian_12_takes_the_plugins_of_the_next_release(machine: Machine) -> None:
    done = machine.engine()
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.installed() == ["ca-certificates", "docker.io", "iptables"]
    plugins = machine.root / "usr/local/lib/docker/cli-plugins"
    assert {path.name for path in plugins.iterdir()} == {"docker-compose", "docker-buildx"}
    keyring = machine.root / "usr/share/keyrings/debian-archive-keyring.gpg"
    assert (machine.state / "sources.list").read_text() == (
        f"deb [signed-by={keyring}] http://mirror.invalid/debian/ trixie main\n"
    )
    # Nothing else is installed, and nothing installed moves to another version.
    assert [line for line in machine.calls("apt-get") if "upgrade" in line] == [
        line for line in machine.calls("apt-get") if "--no-upgrade" in line
    ]


def test_debian_13_installs_all_from_its_own_release(machine: Machine) -> None:
    machine.system(DEBIAN_13)
    done = machine.engine()
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.installed() == [
        "ca-certificates",
        "docker-buildx",
        "docker-cli",
        "docker-compose",
        "docker.io",
        "iptables",
    ]
    assert not (machine.root / "usr/local/lib/docker").exists()


def test_a_client_from_elsewhere_stays(machine: Machine) -> None:
    machine.system(DEBIAN_13)
    machine.client()
    assert machine.engine().returncode == 0
    assert "docker-cli" not in machine.installed()


def test_debian_13_with_a_daemon_but_no_client(machine: Machine) -> None:
    machine.system(DEBIAN_13)
    machine.put("dockerd", DOCKERD)
    assert machine.engine().returncode == 0
    assert "docker-cli" in machine.installed()


def test_ubuntu_has_compose_under_another_name(machine: Machine) -> None:
    machine.system(UBUNTU)
    assert machine.engine().returncode == 0
    assert {"docker-compose-v2", "docker-buildx"} <= set(machine.installed())
    assert "docker-compose" not in machine.installed()


def test_plugins_of_a_user_go_into_the_home_directory(machine: Machine) -> None:
    machine.user(1000)
    machine.client()
    machine.flag("up")
    done = machine.engine()
    assert (done.returncode, done.stderr) == (0, "")
    plugins = machine.home / "home/.docker/cli-plugins"
    assert {path.name for path in plugins.iterdir()} == {"docker-compose", "docker-buildx"}
    assert machine.calls("dockerd", "systemctl", "chown") == []
    assert machine.installed() == []


def test_compose_version_1_counts_as_missing(machine: Machine) -> None:
    machine.client()
    machine.plugins()
    machine.flag("up")
    machine.flag("compose-version", "v1.29.2")
    done = machine.engine(ENGINE="none")
    assert "docker compose is missing" in done.stderr


def test_a_mirror_without_the_next_release(machine: Machine) -> None:
    machine.client()
    machine.flag("up")
    machine.flag("no-trixie")
    done = machine.engine()
    assert done.returncode == 3
    assert "404 Not Found" in done.stderr
    assert "could not fetch the package lists of trixie" in done.stderr


def test_apt_that_fails_shows_its_last_words(machine: Machine) -> None:
    machine.flag("broken-apt")
    done = machine.engine()
    assert done.returncode == 3
    assert "Unable to locate package" in done.stderr


def test_systemd_starts_what_is_installed(machine: Machine) -> None:
    machine.client()
    machine.plugins()
    machine.put("dockerd", DOCKERD)
    machine.put("systemctl", SYSTEMCTL)
    (machine.root / "run/systemd/system").mkdir(parents=True)
    assert machine.engine().returncode == 0
    assert machine.calls(*CHANGES) == ["systemctl start docker"]


def test_systemd_that_cannot_start_it(machine: Machine) -> None:
    machine.client()
    machine.put("dockerd", DOCKERD)
    machine.put("systemctl", SYSTEMCTL)
    machine.put("journalctl", "echo the reason in the log")
    machine.flag("broken-unit")
    (machine.root / "run/systemd/system").mkdir(parents=True)
    done = machine.engine()
    assert done.returncode == 3
    assert "the reason in the log" in done.stderr


def test_the_daemon_is_detached(machine: Machine) -> None:
    machine.client()
    machine.plugins()
    machine.put("dockerd", DOCKERD)
    # Had the daemon kept our pipes, this would last as long as the daemon.
    started = time.monotonic()
    done = machine.engine()
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - started < 10
    pid = int((machine.state / "daemon").read_text())
    assert os.getsid(pid) == pid
    targets = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    assert targets == {"/dev/null", str(machine.root / "var/log/dockerd.log")}
    assert machine.calls("apt-get") == []


def test_a_kernel_without_nf_tables(machine: Machine) -> None:
    machine.client()
    machine.plugins()
    machine.put("dockerd", DOCKERD)
    for name in ("iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy"):
        machine.put(name, "")
    machine.flag("no-nft")
    done = machine.engine()
    assert done.returncode == 0
    assert "trying iptables-legacy for the daemon alone" in done.stdout
    # The machine's own choice stays what it was.
    assert not (machine.bin / "iptables").is_symlink()


def test_a_daemon_that_dies_is_reported_with_its_log(machine: Machine) -> None:
    machine.client()
    machine.put("dockerd", "echo disk full >&2; exit 1")
    done = machine.engine()
    assert done.returncode == 3
    assert "disk full" in done.stderr
