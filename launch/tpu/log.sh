#!/usr/bin/env bash
# Follows the output of the command that runs on a worker, or prints the last lines of the last command.
#   launch/tpu/log.sh NAME --zone ZONE [--worker N] [--project P] [--dry-run]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/machine.sh"
read_options "worker" "$@"
[[ $worker =~ ^[0-9]+$ ]] || refuse "--worker must be a whole number, got '$worker'"

on_workers "$worker" log
