#!/usr/bin/env bash
# Runs a command on a GKE cluster of TPUs with XPK (pip install 'xpk>=1'), in a container that holds this working tree.
#   launch/xpk.sh NAME --cluster CLUSTER --zone ZONE --type v5litepod-16 [--project P] [--max-restarts 20] [--dry-run]
#       -- effnetv2 train --config … --workdir gs://…
# A pod that is stopped gets SIGTERM and has 60 s to save. JobSet restarts the command only after exit code 75 (stopped
# after saving), and at most --max-restarts times. The arguments were checked with the parser of XPK 1.16.0.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/launch/tpu/machine.sh"
read_options "cluster type max-restarts" "$@"
[[ $cluster =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
  refuse "bad or missing --cluster '$cluster'; allowed: lower-case letters, digits, hyphens, a letter first, at most 40"
[[ ${#words[@]} -gt 0 ]] || refuse "the command is missing: give it after --"

# With `exec`, SIGTERM reaches the command itself.
install="python -m pip install --quiet '.[tpu,train]'"
call xpk workload create "--workload=$name" "--cluster=$cluster" "--tpu-type=$type" "--zone=$zone" \
  ${project:+"--project=$project"} --base-docker-image=python:3.12 "--script-dir=$root" \
  "--max-restarts=$max_restarts" --restart-on-exit-codes=75 --termination-grace-period-seconds=60 \
  "--command=$install && source launch/env.sh && exec$(printf ' %q' "${words[@]}")"
