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

# Wheels that no index has, as the lock names them.
if [ -d /build/offline/own ]; then
    PIP_FIND_LINKS="${PIP_FIND_LINKS:+$PIP_FIND_LINKS }/build/offline/own"
    export PIP_FIND_LINKS
fi

# What is written in passing holds the time of its source, and compileall would leave it.
export PYTHONDONTWRITEBYTECODE=1

python3 -m venv --without-pip /opt/venv
rm -f /opt/venv/bin/activate* /opt/venv/bin/Activate.ps1

# The wheel that ensurepip would install is enough to run pip once, from outside the environment.
pip=$(find /usr -name 'pip-*-py3-none-any.whl' | sort | tail -n 1)
PYTHONPATH=$pip /opt/venv/bin/python -m pip --disable-pip-version-check --no-input \
    --cache-dir /var/cache/pip install --quiet --root-user-action ignore \
    --require-hashes --only-binary :all: --no-deps --no-compile -r /build/requirements.lock

# Bytecode that is never checked against its source holds no time, and imports twice as fast
# as none.
/opt/venv/bin/python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash /opt/venv/lib

# Kept for whoever wants to know what is in the image, or to build it again.
cp /build/requirements.lock /opt/venv/requirements.lock

mkdir -p /out/opt
mv /opt/venv /out/opt/venv
find /out -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
