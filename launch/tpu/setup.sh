#!/usr/bin/env bash
# Installs the project on every worker: this working tree (what git does not ignore), or with --repository a clone.
#   launch/tpu/setup.sh NAME --zone ZONE [--repository URL] [--project P] [--dry-run]
# Safe to run again, after a change as well.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/machine.sh"
read_options "repository" "$@"
[[ -z $repository || $repository =~ ^(https://|ssh://|git@)[^[:space:]]+$ ]] ||
  refuse "bad --repository '$repository'; it looks like https://host/owner/effnetv2_jax"

files=("$here/worker.sh")
if [[ -z $repository ]]; then
  root=$(cd "$here/../.." && pwd)
  files+=("$root/dist/effnetv2_jax.tar.gz")
  [[ -n $dry_run ]] || (cd "$root" && mkdir -p dist && git ls-files -z --cached --others --exclude-standard -- . ':!tests' |
    tar --create --gzip --null --files-from=- "--file=dist/.$$.tar.gz" && mv "dist/.$$.tar.gz" "${files[1]}")
fi
tpus tpu-vm scp "${files[@]}" "$name:." --worker=all
tpus tpu-vm ssh "$name" --worker=all "--command=bash worker.sh setup${repository:+ $(printf %q "$repository")}"
