#!/usr/bin/env bash
# Sends SIGTERM to the command on every worker and waits until it has ended. A training run then saves and exits with
# code 75. The TPU itself is kept. With --kill-after, a command that has not ended after so many seconds is killed.
#   launch/tpu/stop.sh NAME --zone ZONE [--kill-after SECONDS] [--project P] [--dry-run]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/machine.sh"
read_options "kill-after" "$@"

on_workers all stop ${kill_after:+"$kill_after"}
