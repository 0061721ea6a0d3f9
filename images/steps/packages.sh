#!/bin/sh
# Unpacks the Debian packages in packages.txt, and what they need beyond the base, into /out.
# Unpacked and not installed: no maintainer script runs, nothing is logged, no user is created.
set -eu
mkdir -p /out /build/debs/partial
wanted=$(sed 's/#.*//' /build/packages.txt)

if [ -n "$(echo "$wanted" | tr -d '[:space:]')" ]; then
    set -- -o Dir::Cache::archives=/build/debs -o APT::Sandbox::User=root
    . /etc/os-release
    if [ -d /build/offline/debian ]; then
        echo "deb [trusted=yes] copy:/build/offline/debian $VERSION_CODENAME main" >/build/sources.list
        set -- "$@" -o Dir::Etc::sourcelist=/build/sources.list -o Dir::Etc::sourceparts=-
    elif [ -s /run/secrets/debian_mirror ] && [ "$ID" = debian ]; then
        # The release itself, without updates: it changes at point releases only.
        echo "deb $(cat /run/secrets/debian_mirror) $VERSION_CODENAME main" >/build/sources.list
        set -- "$@" -o Dir::Etc::sourcelist=/build/sources.list -o Dir::Etc::sourceparts=-
    fi
    if [ -s /run/secrets/ca ]; then
        set -- "$@" -o Acquire::https::CAInfo=/run/secrets/ca
    fi
    apt-get "$@" -q update
    # shellcheck disable=SC2086  # one word per package
    apt-get "$@" -q install -y --no-install-recommends --download-only $wanted

    share=/out/usr/share/harness
    mkdir -p $share
    for deb in /build/debs/*.deb; do
        # Only /usr: what a service reads from /etc or /var is given to it by its topology.
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C /out --no-same-owner --wildcards './usr/*'
        dpkg-deb -W --showformat='${Package}\t${Version}\n' "$deb"
    done | LC_ALL=C sort >$share/debian-packages.txt
    for unread in man info locale lintian bash-completion; do
        rm -rf "/out/usr/share/$unread"
    done
    rm -rf /out/usr/lib/systemd
    find /out/usr/share/doc -type f ! -name copyright -delete
    find /out/usr/share/doc -type l -delete
    find /out/usr/share/doc -type d -empty -delete
fi
find /out -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
