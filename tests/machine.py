"""Machines made of stand-in commands, for tests of the scripts that set a machine up.

The scripts are the real ones; apt-get, docker, dockerd and systemctl are stand-ins that write down
how they were called, and every path outside the project lies under a temporary root.
"""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"

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
            timeout=120,
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

    def end(self) -> None:
        """Kill the stand-in daemon, if one was started."""
        daemon = self.state / "daemon"
        if daemon.exists():
            with suppress(ProcessLookupError):
                os.kill(int(daemon.read_text()), signal.SIGKILL)
