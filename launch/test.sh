#!/usr/bin/env bash
# Installs effnetv2_jax into the virtual environment .venv and runs ruff, mypy and the tests.
#   launch/test.sh [PYTEST ARGUMENT ...]
# TEST_PROCESSES is the number of test processes (default: 2). The slow tests run with: launch/test.sh -m slow
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/venv.sh
source launch/explain.sh
[[ ${1:-} != --help ]] || explain launch/test.sh

install_into .venv '.[dev]'
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest -n "${TEST_PROCESSES:-2}" "$@"
