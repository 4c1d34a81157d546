#!/usr/bin/env bash
# Sends SIGTERM to the command on every worker and waits until it has ended: a training run saves and exits with 75. The
# TPU itself is kept.
#   launch/tpu/stop.sh NAME --zone ZONE [--project P] [--dry-run]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/machine.sh"
read_options "" "$@"

on_workers all stop
