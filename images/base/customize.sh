#!/bin/sh
# Last step of the base made from Debian packages; $1 is its root directory.
# Records what is installed and removes what differs between two builds or machines.
set -eu
root=$1

chroot "$root" dpkg-query -W >"$root/usr/share/base-packages.txt"

# Copied from, or named after, the machine that built it. The sources name its mirror.
rm -f "$root/etc/hostname" "$root/etc/resolv.conf" "$root/etc/machine-id"
rm -rf "$root/etc/apt/sources.list" "$root/etc/apt/sources.list.d/"* "$root/var/lib/apt/lists/"*

# Logs, caches and backups that package scripts leave; they hold times and inode numbers.
rm -rf "$root/var/log/"* "$root/var/cache/ldconfig/"* "$root/var/cache/apt/"*
rm -f "$root/var/cache/debconf/"*-old "$root/var/lib/dpkg/"*-old
rm -f "$root/etc/passwd-" "$root/etc/group-" "$root/etc/shadow-" "$root/etc/gshadow-" \
    "$root/etc/subuid-" "$root/etc/subgid-"

# Character set converters of iconv(3), 8 MB: Python has its own.
rm -rf "$root"/usr/lib/*/gconv

# The interactive help's texts and the test framework's own tests.
rm -rf "$root"/usr/lib/python3.[0-9]*/pydoc_data "$root"/usr/lib/python3.[0-9]*/test

# What compiles Debian's Python packages when they are installed; its own bytecode is written by an
# import or by itself, whichever comes first, and the two differ.
find "$root/usr/share/python3" -name __pycache__ -exec rm -r {} +

# Python's bytecode as Debian compiles it is checked against the source at each import.
# The sources here never change, so an import need not read them.
chroot "$root" sh -c \
    'python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3.[0-9]*'
