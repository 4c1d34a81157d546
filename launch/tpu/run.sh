#!/usr/bin/env bash
# Runs the same command on every worker, follows its output, and exits as it does (75: stopped after saving).
#   launch/tpu/run.sh NAME --zone ZONE [--project P] [--dry-run] -- effnetv2 train --config … --workdir gs://…
# The command lives on the machine: it outlives this script and a broken connection, and the same call follows it again.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/machine.sh"
read_options "" "$@"
[[ ${#words[@]} -gt 0 ]] || refuse "the command is missing: give it after --"

on_workers all run "${words[@]}"
