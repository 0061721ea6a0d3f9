"""What scripts/engine and scripts/venv decide, on machines made of stand-in commands.

The scripts are the real ones; apt-get, docker, dockerd and systemctl are stand-ins that write down
how they were called, and every path outside the project lies under a temporary root.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"

# What the scripts use of a system. Nothing else is on their PATH, in particular no real Docker.
TOOLS = """
bash cat chmod cp dirname find flock grep head install ln mkdir mktemp mv nohup readlink rm sed
setsid sha256sum sleep tail timeout touch wc
"""

DEBIAN_12 = 'ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
DEBIAN_13 = 'ID=debian\nVERSION_CODENAME=trixie\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n'
UBUNTU = 'ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\nPRETTY_NAME="Ubuntu 24.04 LTS"\n'
FEDORA = 'ID=fedora\nPRETTY_NAME="Fedora Linux 42"\n'

# Packages that apt offers, as `name version` lines.
OFFERS = {
    DEBIAN_12: "docker.io 20.10.24\ndocker-compose 1.29.2-3\n",
    DEBIAN_13: "docker.io 26.1.5\ndocker-cli 26.1.5\ndocker-compose 2.26.1\ndocker-buildx 0.13\n",
    UBUNTU: "docker.io 28.2.2\ndocker-compose 1.29.2\ndocker-compose-v2 2.37\ndocker-buildx 0.21\n",
    FEDORA: "",
}
TRIXIE_OFFERS = OFFERS[DEBIAN_13]

# The engine answers while $STATE/up exists; a plug-in is there when a directory on the client's
# search path, or $STATE/plugins, has it.
DOCKER = r"""
plugin() {
    [ -e "$STATE/plugins/docker-$1" ] || [ -e "$HOME/.docker/cli-plugins/docker-$1" ] ||
        [ -e "$ROOT/usr/local/lib/docker/cli-plugins/docker-$1" ]
}
case "$1 ${2:-}" in
    "version "*) [ -e "$STATE/up" ] && echo 26.1.5 ;;
    "compose version")
        plugin compose && { cat "$STATE/compose-version" 2>/dev/null || echo 2.26.1; } ;;
    "buildx version") plugin buildx ;;
    "context show") cat "$STATE/context" 2>/dev/null || echo default ;;
    "--version "*) echo "Docker version 26.1.5" ;;
    *) exit 1 ;;
esac
"""

APT_GET = r"""
config="" verb="" packages=""
while [ $# -gt 0 ]; do
    case "$1" in
        -c) config="$2"; shift ;;
        -o) shift ;;
        -*) ;;
        *) if [ -z "$verb" ]; then verb="$1"; else packages="$packages $1"; fi ;;
    esac
    shift
done
case "$verb" in
    update)
        if [ -n "$config" ] && grep -q sourcelist "$config"; then
            [ ! -e "$STATE/no-trixie" ] || { echo "404 Not Found"; exit 100; }
            cp "$(sed -n 's/^Dir::Etc::sourcelist "\(.*\)";$/\1/p' "$config")" "$STATE/sources.list"
        fi ;;
    indextargets) echo "http://mirror.invalid/debian/" ;;
    download)
        for package in $packages; do echo "$package" >"${package}_1_all.deb"; done ;;
    install)
        [ ! -e "$STATE/broken-apt" ] || { echo "E: Unable to locate package"; exit 100; }
        mkdir -p "$STATE/plugins"
        for package in $packages; do
            case "$package" in
                docker.io)
                    cp "$STATE/dockerd" "$BIN/dockerd"
                    grep -q docker-cli "$STATE/offers" || cp "$STATE/docker" "$BIN/docker" ;;
                docker-cli) cp "$STATE/docker" "$BIN/docker" ;;
                docker-compose | docker-compose-v2) touch "$STATE/plugins/docker-compose" ;;
                docker-buildx) touch "$STATE/plugins/docker-buildx" ;;
            esac
        done ;;
esac
"""

APT_CACHE = r"""
offers="$STATE/offers"
if [ "$1" = -c ]; then
    if grep -q sourcelist "$2"; then offers="$STATE/trixie-offers"; fi
    shift 2
fi
version="$(sed -n "s/^$2 //p" "$offers")"
printf '%s:\n  Installed: (none)\n  Candidate: %s\n' "$2" "${version:-(none)}"
"""

# Not Debian's version order, but enough for "older than 2".
DPKG = '[ "${2%%.*}" -lt 2 ]'

DPKG_DEB = r"""
package="$(cat "$2")"
mkdir -p "$3/usr/libexec/docker/cli-plugins"
touch "$3/usr/libexec/docker/cli-plugins/$package"
"""

DOCKERD = r"""
echo "starting with $(command -v iptables || echo no iptables)"
if [ -e "$STATE/no-nft" ] && [[ "$PATH" != *iptables-legacy:* ]]; then
    echo "failed to create NAT chain: iptables failed" >&2
    exit 1
fi
echo $$ >"$STATE/daemon"
sleep 0.3
touch "$STATE/up"
exec sleep 60
"""

SYSTEMCTL = r"""
[ ! -e "$STATE/broken-unit" ] || exit 1
touch "$STATE/up"
"""


@dataclass
class Machine:
    """A machine that exists for one test."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder in ("bin", "state", "home", "root/etc", "root/usr/share/keyrings", "root/run"):
            (self.home / folder).mkdir(parents=True)
        (self.home / "root/var/log").mkdir(parents=True)
        (self.root / "usr/share/keyrings/debian-archive-keyring.gpg").touch()
        for tool in TOOLS.split():
            found = shutil.which(tool)
            assert found is not None, tool
            (self.bin / tool).symlink_to(found)
        self.env |= {
            "PATH": str(self.bin),
            "HOME": str(self.home / "home"),
            "HARNESS_SYSTEM_ROOT": str(self.root),
        }
        self.put("chown", "")
        self.user(0)

    @property
    def bin(self) -> Path:
        return self.home / "bin"

    @property
    def root(self) -> Path:
        return self.home / "root"

    @property
    def state(self) -> Path:
        return self.home / "state"

    def put(self, name: str, body: str, folder: Path | None = None) -> None:
        """Install a stand-in that writes down its call and then runs `body`."""
        path = (folder or self.bin) / name
        path.unlink(missing_ok=True)
        path.write_text(
            f"#!{shutil.which('bash')}\n"
            f"STATE={self.state} BIN={self.bin} ROOT={self.root}\n"
            f'echo "{name} $*" >>"$STATE/calls"\n{body}\n'
        )
        path.chmod(0o755)

    def user(self, number: int) -> None:
        self.put("id", f'case "$*" in -u) echo {number} ;; -un) echo someone ;; *) exit 1 ;; esac')

    def system(self, os_release: str) -> None:
        (self.root / "etc/os-release").write_text(os_release)
        (self.state / "offers").write_text(OFFERS[os_release])
        (self.state / "trixie-offers").write_text(TRIXIE_OFFERS)
        if os_release != FEDORA:
            self.put("apt-get", APT_GET)
            self.put("apt-cache", APT_CACHE)
            self.put("dpkg", DPKG)
            self.put("dpkg-deb", DPKG_DEB)
        # Where installing takes them from.
        self.put("docker", DOCKER, self.state)
        self.put("dockerd", DOCKERD, self.state)

    def client(self) -> None:
        self.put("docker", DOCKER)

    def plugins(self) -> None:
        (self.state / "plugins").mkdir(exist_ok=True)
        (self.state / "plugins/docker-compose").touch()
        (self.state / "plugins/docker-buildx").touch()

    def flag(self, name: str, text: str = "") -> None:
        (self.state / name).write_text(text)

    def engine(self, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / "bash", SCRIPTS / "engine"],
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def calls(self, *names: str) -> list[str]:
        log = self.state / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.split()[0] in names]

    def installed(self) -> list[str]:
        """The packages that were installed, sorted."""
        words = [w for line in self.calls("apt-get") if " install " in line for w in line.split()]
        packages = words[words.index("install") + 1 :] if words else []
        return sorted(word for word in packages if not word.startswith("-"))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "machine")
    machine.system(DEBIAN_12)
    yield machine
    daemon = machine.state / "daemon"
    if daemon.exists():
        os.kill(int(daemon.read_text()), signal.SIGKILL)


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


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The part of a checkout that scripts/venv looks at, with an environment that is ready."""
    path = tmp_path / "checkout"
    shutil.copytree(SCRIPTS, path / "scripts")
    (path / "requirements.lock").touch()
    (path / "pyproject.toml").touch()
    return path


def run_venv(checkout: Path, machine: Machine, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [machine.bin / "bash", checkout / "scripts/venv"],
        env=machine.env | env,
        capture_output=True,
        text=True,
        timeout=30,
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
    lock, package = (line for line in machine.calls("python3") if " pip " in line)
    assert "--require-hashes --no-deps --only-binary :all: -r requirements.lock" in lock
    assert "--no-deps --no-build-isolation --no-index --editable ." in package

    before = machine.calls("python3")
    done = run_venv(checkout, machine)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.calls("python3") == before

    (checkout / "requirements.lock").write_text("changed")
    assert "installing requirements.lock" in run_venv(checkout, machine).stdout
