#!/bin/sh
# Installs requirements.lock into a virtual environment for its final path, /opt/venv, in /out.
set -eu
if [ -s /run/secrets/ca ]; then
    export PIP_CERT=/run/secrets/ca
fi
if [ -s /run/secrets/pip_index_url ]; then
    PIP_INDEX_URL=$(cat /run/secrets/pip_index_url)
    export PIP_INDEX_URL
fi
if [ -d /build/offline/wheels ]; then
    export PIP_NO_INDEX=1 PIP_FIND_LINKS=/build/offline/wheels
fi

# What is written in passing holds the time of its source, and compileall would leave it.
export PYTHONDONTWRITEBYTECODE=1

python3 -m venv --without-pip /opt/venv
rm -f /opt/venv/bin/activate* /opt/venv/bin/Activate.ps1

# The wheel that ensurepip would install is enough to run pip once, from outside the environment.
pip=$(find /usr -name 'pip-*-py3-none-any.whl' | sort | tail -n 1)
install() {
    PYTHONPATH=$pip /opt/venv/bin/python -m pip --disable-pip-version-check --no-input \
        --cache-dir /var/cache/pip install --quiet --root-user-action ignore \
        --only-binary :all: --no-deps --no-compile "$@"
}

# Wheels that are at hand first. An index may have others of that version, and pip would take those.
cp /build/requirements.lock /build/others.lock
for wheel in /build/offline/own/*.whl; do
    [ -e "$wheel" ] || continue
    hash=$(sha256sum "$wheel" | cut -c 1-64)
    grep -q "sha256:$hash" /build/requirements.lock || continue
    install --no-index "$wheel"
    # Its entry has no other hash.
    awk -v hash="$hash" 'index($0, hash) { held = ""; next }
        { if (held != "") print held; held = $0 } END { print held }' \
        /build/others.lock >/build/left.lock
    mv /build/left.lock /build/others.lock
done
install --require-hashes -r /build/others.lock

# Bytecode that is never checked against its source holds no time, and imports twice as fast
# as none.
/opt/venv/bin/python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash /opt/venv/lib

# Kept for whoever wants to know what is in the image, or to build it again.
cp /build/requirements.lock /opt/venv/requirements.lock

mkdir -p /out/opt
mv /opt/venv /out/opt/venv
find /out -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
