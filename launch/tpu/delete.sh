#!/usr/bin/env bash
# Deletes a Cloud TPU with everything on its disks. In a queued mode, also deletes its request.
#   launch/tpu/delete.sh NAME --zone ZONE [--mode on-demand|spot|queued|queued-spot] [--project P] [--dry-run]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/machine.sh"
read_options "mode" "$@"

if is_queued; then
  tpus queued-resources delete "$name" --force
else
  tpus tpu-vm delete "$name"
fi
