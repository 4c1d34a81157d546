#!/usr/bin/env bash
# Trains on a GKE cluster of TPUs through XPK (pip install 'xpk>=1'), which puts this tree into a container.
#   launch/xpk.sh NAME --cluster CLUSTER --zone ZONE --type v5litepod-16 [--project P] [--max-restarts 20] [--dry-run]
#       -- effnetv2 train --config … --workdir gs://…
# A pod has 60 s to save when it is told to stop (`exec`, so that the signal reaches the command). JobSet starts it again
# after exit code 75, and a failure stays one. Parsed by XPK 1.16.0.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/launch/tpu/machine.sh"
read_options "cluster type max-restarts" "$@"
[[ $cluster =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] || refuse "bad or missing --cluster '$cluster'"
[[ ${#words[@]} -gt 0 ]] || refuse "the command is missing: give it after --"

install="python -m pip install --quiet '.[tpu,train]'"
call xpk workload create "--workload=$name" "--cluster=$cluster" "--tpu-type=$type" "--zone=$zone" \
  ${project:+"--project=$project"} --base-docker-image=python:3.12 "--script-dir=$root" \
  "--max-restarts=$max_restarts" --restart-on-exit-codes=75 --termination-grace-period-seconds=60 \
  "--command=$install && source launch/env.sh && exec$(printf ' %q' "${words[@]}")"
