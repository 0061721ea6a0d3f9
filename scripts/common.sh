# Shared by the scripts beside it, which source it: messages, the system's name, apt.
# shellcheck shell=bash

# Stands before every path outside the project, so that the decisions can be tested on any system.
readonly ROOT="${HARNESS_SYSTEM_ROOT:-}"

say() { printf '%s: %s\n' "${0##*/}" "$*"; }

# Ends with the harness's exit code for "the infrastructure is not there".
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 3
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# Reads one field of os-release without executing the file.
os_field() {
    local value
    value="$(sed -n "s/^$1=//p" "$ROOT/etc/os-release" 2>/dev/null | head -n 1)"
    value="${value#[\"\']}"
    printf '%s' "${value%[\"\']}"
}

is_debian_like() {
    case " $(os_field ID) $(os_field ID_LIKE) " in
        *' debian '* | *' ubuntu '*) command -v apt-get >/dev/null ;;
        *) return 1 ;;
    esac
}

# Shows what a command printed only when it failed.
quietly() {
    local output status=0
    output="$(mktemp)"
    "$@" </dev/null >"$output" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then tail -n 30 "$output" >&2; fi
    rm -f "$output"
    return "$status"
}

# Filled while another apt state than the machine's is in use.
apt_options=()

# Another apt (unattended upgrades on a fresh machine) may hold the lock, and mirrors hiccup.
apt() {
    DEBIAN_FRONTEND=noninteractive quietly apt-get "${apt_options[@]}" -q -y \
        -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5 -o Dpkg::Use-Pty=0 "$@"
}

# Fetches the package lists. A broken third-party source must not stop us (a missing package will), but
# its message may be what explains the rest: without the option apt-get is silent about it.
apt_update() {
    apt -o APT::Update::Error-Mode=any update || say "apt-get update failed at least in part (see above), going on"
}
