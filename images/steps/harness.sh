#!/bin/sh
# Puts the harness package into the virtual environment's place in /out, and makes the
# directories that topologies mount.
set -eu
site=$(python3 -c 'import sysconfig
print(sysconfig.get_path("purelib", "venv", vars={"base": "/opt/venv"}))')

mkdir -p "/out$site" /out/harness/run /out/harness/store /out/harness/state
# Any user id may run the services, and a new volume takes over the mode of the directory below.
chmod 1777 /out/harness/store /out/harness/run /out/harness/state
cp -r /build/harness "/out$site/harness"
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s /out -p / "/out$site/harness"
find /out -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
