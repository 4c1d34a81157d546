#!/usr/bin/env bash
# Installs effnetv2_jax with its tests' needs into a virtual environment and runs the tests; safe to run again.
# Arguments go to pytest: launch/test.sh -m slow
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
