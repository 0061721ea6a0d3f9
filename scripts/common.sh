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

# The version of a package that apt would install; nothing where it knows none.
candidate() {
    LC_ALL=C apt-cache "${apt_options[@]}" policy "$1" 2>/dev/null |
        sed -n -e '/(none)/d' -e 's/^  Candidate: //p'
}

# The mirror this machine uses for its own release, so that none has to be named here.
own_mirror() {
    # shellcheck disable=SC2016  # apt expands it
    apt-get "${apt_options[@]}" indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
        'Origin: Debian' "Codename: $(os_field VERSION_CODENAME)" 'Component: main' 2>/dev/null |
        sed -E '/^(cdrom|file|copy):/d' | head -n 1
}

# Makes apt work on lists, a cache and sources in the directory $1 instead of the machine's own, so
# that nothing the machine knows or would install changes. With further arguments, on exactly these
# Debian releases, whatever the machine's own is.
use_temporary_apt_state() {
    local work="$1" release mirror keyring="$ROOT/usr/share/keyrings/debian-archive-keyring.gpg"
    shift
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$work/empty"
    # As root, apt downloads as a user of its own.
    chmod 755 "$work"
    if is_root && id -u _apt >/dev/null 2>&1; then
        chown _apt "$work/lists/partial" "$work/cache/archives/partial" "$work/debs"
    fi
    # Other packages hang hooks on an update of the machine's own lists: not for this one.
    cat >"$work/apt.conf" <<-CONF
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		Acquire::Languages "none";
		Dir::State::lists "$work/lists";
		Dir::Cache "$work/cache";
	CONF
    if [ $# -gt 0 ]; then
        mirror="$(own_mirror)"
        if [ -z "$mirror" ]; then
            # A machine whose lists were never fetched (or were deleted, as in many container images).
            apt_options=(-c "$work/apt.conf")
            apt update || true
            mirror="$(own_mirror)"
        fi
        [ -n "$mirror" ] ||
            fail "apt has no source for main of $(os_field PRETTY_NAME): add one to its sources"
        [ -r "$keyring" ] || fail "$keyring is missing: install the package debian-archive-keyring"
        for release in "$@"; do
            echo "deb [signed-by=$keyring] $mirror $release main"
        done >"$work/sources.list"
        # A pinned release or package would hide what we look for.
        cat >>"$work/apt.conf" <<-CONF
			Dir::Etc::sourcelist "$work/sources.list";
			Dir::Etc::sourceparts "$work/empty";
			Dir::Etc::preferences "$work/empty/none";
			Dir::Etc::preferencesparts "$work/empty";
			APT::Default-Release "";
		CONF
    fi
    apt_options=(-c "$work/apt.conf")
    apt -o APT::Update::Error-Mode=any update || fail "apt-get could not fetch the package lists${1:+ of $*}: see above"
}
