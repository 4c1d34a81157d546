#!/usr/bin/env bash
# Runs a command on every worker, follows its output and exits with its exit code (75 means: stopped after saving).
#   launch/tpu/run.sh NAME --zone ZONE [--project P] [--dry-run] -- effnetv2 train --config … --workdir gs://…
# The command keeps running if this script ends or the connection breaks. Run the same line again to follow it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/machine.sh"
read_options "" "$@"
[[ ${#words[@]} -gt 0 ]] || refuse "the command is missing: give it after --"

on_workers all run "${words[@]}"
