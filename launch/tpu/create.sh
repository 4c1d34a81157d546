#!/usr/bin/env bash
# Creates a Cloud TPU and waits until it is ready.
#   launch/tpu/create.sh NAME --zone ZONE --type v5litepod-8 [--mode on-demand|spot|queued|queued-spot]
#       [--version RUNTIME] [--project P] [--dry-run]
# Spot TPUs cost less, but may be preempted. In the queued modes, the request waits until TPUs are available.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/machine.sh"
read_options "type mode version" "$@"

spot=()
[[ $mode != *spot ]] || spot=(--spot)
if ! is_queued; then
  tpus tpu-vm create "$name" "--accelerator-type=$type" "--version=$version" ${spot[@]+"${spot[@]}"}
  exit
fi

tpus queued-resources create "$name" "--node-id=$name" "--accelerator-type=$type" "--runtime-version=$version" \
  ${spot[@]+"${spot[@]}"}
while true; do
  state=$(tpus queued-resources describe "$name" '--format=value(state.state)')
  echo "$state"
  case $state in
    ACTIVE) exit ;;
    FAILED | SUSPENDING | SUSPENDED | DELETING)
      echo "create.sh: the request for $name ended as $state; delete.sh removes it" >&2
      exit 1
      ;;
  esac
  [[ -z $dry_run ]] || exit 0
  sleep "${POLL_SECONDS:-30}"
done
