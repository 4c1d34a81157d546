#!/usr/bin/env bash
# Installs the project on every worker: the files of this working tree that git does not ignore, or a git repository.
#   launch/tpu/setup.sh NAME --zone ZONE [--repository URL] [--project P] [--dry-run]
# Run it again after a change.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/machine.sh"
read_options "repository" "$@"
[[ -z $repository || $repository =~ ^(https://|ssh://|git@)[^[:space:]]+$ ]] ||
  refuse "bad --repository '$repository'; must look like https://host/owner/effnetv2_jax"

# list_files: prints the files to install, each followed by a null byte. Leaves out deleted files, which git also lists.
list_files() {
  local file
  git ls-files -z --cached --others --exclude-standard -- . ':!tests' | while IFS= read -r -d '' file; do
    [[ ! -e $file && ! -L $file ]] || printf '%s\0' "$file"
  done
}

files=("$here/worker.sh")
if [[ -z $repository ]]; then
  root=$(cd "$here/../.." && pwd)
  files+=("$root/dist/effnetv2_jax.tar.gz")
  [[ -n $dry_run ]] || (cd "$root" && mkdir -p dist && list_files |
    tar --create --gzip --null --files-from=- "--file=dist/.$$.tar.gz" && mv "dist/.$$.tar.gz" "${files[1]}")
fi
tpus tpu-vm scp "${files[@]}" "$name:." --worker=all
tpus tpu-vm ssh "$name" --worker=all "--command=bash worker.sh setup${repository:+ $(printf %q "$repository")}"
