#!/usr/bin/env bash
# Builds the wheel of every distribution, installs all of them into an empty environment, and starts the commands that they bring.
# Usage: tools/wheels.sh PYTHON (with hatchling)
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:?usage: tools/wheels.sh PYTHON}
rm -rf build/dist build/wheels-venv
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir build/dist \
    $(for file in libs/*/pyproject.toml services/*/pyproject.toml cli/pyproject.toml vpn/pyproject.toml stack/pyproject.toml; do [ ! -f "$file" ] || dirname "./$file"; done)
"$python" -m venv build/wheels-venv
build/wheels-venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt build/dist/*.whl
for wheel in build/dist/*.whl; do
    if unzip -l "$wheel" 2>/dev/null | grep -qE 'warren_testkit|/tests/|/testing'; then echo "$wheel ships tests" >&2; exit 1; fi
done
for verb in up demo deploy; do build/wheels-venv/bin/warren $verb --help > /dev/null; done
build/wheels-venv/bin/warren --help > /dev/null
build/wheels-venv/bin/warren-agent --help > /dev/null
build/wheels-venv/bin/warren-guard --help > /dev/null
echo "$(ls build/dist/*.whl | wc -l) wheels built, installed and started"
