#!/usr/bin/env bash
# Stops what runs on the workers with SIGTERM, so that it saves and exits 75, and waits until it has. The machine stays.
#   launch/tpu/stop.sh NAME --zone ZONE [--project P] [--dry-run]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/machine.sh"
read_options "" "$@"

on_workers all stop
