#!/usr/bin/env bash
# Keeps a command running on machines that may be lost: creates a TPU, installs, runs; when the run stops after saving
# (exit code 75) or the machine is gone, makes another and goes on, until the command is done (0), which deletes the TPU.
#   launch/tpu/supervise.sh NAME --zone ZONE --type v5litepod-8 [--mode queued-spot] [--max-restarts 20] [--version RUNTIME]
#       [--repository URL] [--project P] [--dry-run] -- effnetv2 train --config … --workdir gs://…
# Any other exit code is a failure: it stops at once with that code and leaves the machine to be looked at. Too many
# restarts end with 75: the same call goes on.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/machine.sh"
mode=queued-spot
read_options "type mode version repository max-restarts" "$@"
[[ ${#words[@]} -gt 0 ]] || refuse "the command is missing: give it after --"
[[ " ${words[*]} " =~ \ --workdir[=\ ]gs:// ]] ||
  refuse "the command needs --workdir gs://…: what lies on a machine's disk is lost with the machine"

place=("$name" "--zone=$zone" ${project:+"--project=$project"} ${dry_run:+--dry-run})
create=("$here/create.sh" "${place[@]}" "--type=$type" "--mode=$mode" "--version=$version")
delete=("$here/delete.sh" "${place[@]}" "--mode=$mode")
setup=("$here/setup.sh" "${place[@]}" ${repository:+"--repository=$repository"})
run=("$here/run.sh" "${place[@]}" -- "${words[@]}")

if [[ -n $dry_run ]]; then
  "${create[@]}" && "${setup[@]}" && "${run[@]}" && exec "${delete[@]}"
fi

say() {
  echo "supervise.sh: $*" >&2
}

# The machine's state in the words of Cloud TPU (READY, PREEMPTED, TERMINATED …), or ABSENT.
machine_state() {
  local said
  if said=$(tpus tpu-vm describe "$name" '--format=value(state)' 2>&1); then
    echo "${said##*$'\n'}"
  elif [[ $said == *NOT_FOUND* ]]; then
    echo ABSENT
  else
    say "cannot ask for the state of $name: ${said##*$'\n'}"
    exit 1
  fi
}

# A preemption shows in the machine's state some time after the run has failed of it. A state that cannot be asked for is
# asked for again.
is_lost() {
  local state pause
  for pause in 0 "$poll" "$poll"; do
    sleep "$pause"
    state=$(machine_state) || continue
    [[ $state == READY ]] || { say "$name is $state" && return 0; }
  done
  return 1
}

have_machine() {
  local state
  state=$(machine_state) || return ${had_machine:+255} # once there was one, as a broken connection: tried again
  if [[ $state != READY ]]; then
    # A queued request outlives its machine, and what is left of either takes the name.
    [[ $state == ABSENT ]] && ! is_queued || "${delete[@]}" || say "nothing to delete"
    "${create[@]}" || return
  fi
  had_machine=1
}

poll=${POLL_SECONDS:-30}
had_machine="" # a first machine that cannot be had is an error; a later one is waited for
restarts=0
while true; do
  code=0
  { have_machine && "${setup[@]}" && "${run[@]}"; } || code=$?
  case $code in
    0)
      say "done after $restarts restarts; deleting $name"
      exec "${delete[@]}"
      ;;
    75)
      say "stopped after saving"
      "${delete[@]}" || say "nothing to delete"
      ;;
    *)
      # 255 is the connection's own failure: if the machine is there, the run goes on and is followed again.
      if [[ -z $had_machine ]] || { ! is_lost && [[ $code -ne 255 ]]; }; then
        say "failed with exit code $code; $name is left as it is: ${delete[*]} deletes it"
        exit "$code"
      fi
      sleep "$poll"
      ;;
  esac
  restarts=$((restarts + 1))
  if [[ $restarts -gt $max_restarts ]]; then
    say "gave up after $max_restarts restarts; the same command goes on"
    exit 75
  fi
  say "restart $restarts of at most $max_restarts"
done
