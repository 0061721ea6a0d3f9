#!/bin/sh
# Downloads into /out what an image is made of: the base's Debian packages beside those of
# packages.txt, which are there already, and the wheels of requirements.lock.
set -eu
mkdir -p /out/debian /out/wheels
rm -rf /out/debian/partial /out/debian/lock
. /etc/os-release

# A base from elsewhere is not made of Debian packages alone, and has no list of them.
if [ -s /usr/share/base-packages.txt ]; then
    set -- -o APT::Sandbox::User=root
    if [ -s /run/secrets/debian_mirror ]; then
        echo "deb $(cat /run/secrets/debian_mirror) $VERSION_CODENAME main" >/build/sources.list
        set -- "$@" -o Dir::Etc::sourcelist=/build/sources.list -o Dir::Etc::sourceparts=-
    fi
    if [ -s /run/secrets/ca ]; then
        set -- "$@" -o Acquire::https::CAInfo=/run/secrets/ca
    fi
    apt-get "$@" -q update
    cd /out/debian
    # shellcheck disable=SC2046  # one word per package
    apt-get "$@" -q download $(awk '{ print $1 "=" $2 }' /usr/share/base-packages.txt)
    cd /
fi

if [ -s /run/secrets/ca ]; then
    export PIP_CERT=/run/secrets/ca
fi
if [ -s /run/secrets/pip_index_url ]; then
    PIP_INDEX_URL=$(cat /run/secrets/pip_index_url)
    export PIP_INDEX_URL
fi
cp /build/requirements.lock /build/others.lock
for wheel in /build/offline/own/*.whl; do
    [ -e "$wheel" ] || continue
    hash=$(sha256sum "$wheel" | cut -c 1-64)
    grep -q "sha256:$hash" /build/requirements.lock || continue
    cp "$wheel" /out/wheels/
    awk -v hash="$hash" 'index($0, hash) { held = ""; next }
        { if (held != "") print held; held = $0 } END { print held }' \
        /build/others.lock >/build/left.lock
    mv /build/left.lock /build/others.lock
done
pip=$(find /usr -name 'pip-*-py3-none-any.whl' | sort | tail -n 1)
PYTHONPATH=$pip python3 -m pip --disable-pip-version-check --no-input --cache-dir /var/cache/pip \
    download --quiet --require-hashes --only-binary :all: --no-deps \
    --dest /out/wheels -r /build/others.lock
