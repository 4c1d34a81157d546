#!/usr/bin/env bash
# Runs a command on TPUs that may be preempted: creates a TPU, installs the project and runs the command. If the run
# stops after saving (exit code 75) or the TPU is lost, creates another TPU and resumes the run. When the command
# succeeds, deletes the TPU.
#   launch/tpu/supervise.sh NAME --zone ZONE --type v5litepod-8 [--mode queued-spot] [--max-restarts 20]
#       [--stall-minutes 15] [--version RUNTIME] [--repository URL] [--project P] [--dry-run]
#       -- effnetv2 train --config … --workdir gs://…
# A run that hangs is stopped and resumed as well: one that has not renewed heartbeat.json in its folder for
# --stall-minutes. Only `effnetv2 train` writes that file; for another command, switch this off with --stall-minutes 0.
# Any other exit code is a failure: the script stops at once with that code and keeps the TPU for inspection. After too
# many restarts it exits with 75; run the same line again to resume.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/machine.sh"
mode=queued-spot

# workdir_of WORD...: prints the run folder that a command names, without a slash at its end.
workdir_of() {
  local before="" word folder="" within=' --workdir[= ]([^ ]+)'
  for word; do
    [[ ! $word =~ $within ]] || folder=${BASH_REMATCH[1]} # a word that is a command itself, as after bash -c
    [[ $word != --workdir=* ]] || folder=${word#*=}
    [[ $before != --workdir ]] || folder=$word
    before=$word
  done
  echo "${folder%/}"
}

read_options "type mode version repository max-restarts stall-minutes" "$@"
[[ ${#words[@]} -gt 0 ]] || refuse "the command is missing: give it after --"
workdir=$(workdir_of "${words[@]}")
[[ $workdir == gs://* ]] ||
  refuse "the command needs --workdir gs://…, because the disks of a lost TPU are lost too"

place=("$name" "--zone=$zone" ${project:+"--project=$project"} ${dry_run:+--dry-run})
create=("$here/create.sh" "${place[@]}" "--type=$type" "--mode=$mode" "--version=$version")
delete=("$here/delete.sh" "${place[@]}" "--mode=$mode")
setup=("$here/setup.sh" "${place[@]}" ${repository:+"--repository=$repository"})
run=("$here/run.sh" "${place[@]}" -- "${words[@]}")
stop=("$here/stop.sh" "${place[@]}" --kill-after=60)

if [[ -n $dry_run ]]; then
  "${create[@]}" && "${setup[@]}" && "${run[@]}" && exec "${delete[@]}"
fi

report() {
  echo "supervise.sh: $*" >&2
}

# machine_state: prints the state of the TPU as Cloud TPU names it (READY, PREEMPTED, TERMINATED …), or ABSENT.
machine_state() {
  local output
  if output=$(tpus tpu-vm describe "$name" '--format=value(state)' 2>&1); then
    echo "${output##*$'\n'}"
  elif [[ $output == *NOT_FOUND* ]]; then
    echo ABSENT
  else
    report "cannot read the state of $name: ${output##*$'\n'}"
    exit 1
  fi
}

# is_lost: succeeds if the TPU is not READY. The state is read three times, because it changes only some time after a
# preemption has ended the run, and because reading it may fail.
is_lost() {
  local state pause
  for pause in 0 "$poll" "$poll"; do
    sleep "$pause"
    state=$(machine_state) || continue
    [[ $state == READY ]] || { report "$name is $state" && return 0; }
  done
  return 1
}

# have_machine: creates the TPU unless there is one that is READY.
have_machine() {
  local state
  state=$(machine_state) || return ${had_machine:+255} # once there was a TPU, treated like a broken connection
  if [[ $state != READY ]]; then
    # A lost TPU, and a queued request even without a TPU, keep the name in use until they are deleted.
    [[ $state == ABSENT ]] && ! is_queued || "${delete[@]}" || report "nothing to delete"
    "${create[@]}" || return
  fi
  had_machine=1
}

source "$here/heartbeat.sh"
poll=${POLL_SECONDS:-30}
tick=$((poll > 0 ? 1 : 0)) # seconds until the end of a command in the background is noticed
had_machine="" # set once there was a TPU: a failure to create the first one is an error, but later ones are retried
restarts=0
while true; do
  code=0 stalled=""
  { have_machine && "${setup[@]}" && follow; } || code=$?
  case ${stalled:+stalled}$code in
    0)
      report "done after $restarts restarts; deleting $name"
      "${delete[@]}"
      exit
      ;;
    75)
      report "stopped after saving"
      "${delete[@]}" || report "nothing to delete"
      ;;
    stalled*) sleep "$poll" ;;
    *)
      # 255 means a broken connection. If the TPU is not lost, the run continues there, and run.sh follows it again.
      if [[ -z $had_machine ]] || { ! is_lost && [[ $code -ne 255 ]]; }; then
        report "failed with exit code $code; $name is kept, delete it with: ${delete[*]}"
        exit "$code"
      fi
      sleep "$poll"
      ;;
  esac
  restarts=$((restarts + 1))
  if [[ $restarts -gt $max_restarts ]]; then
    report "gave up after $max_restarts restarts; run the same command again to resume"
    exit 75
  fi
  report "restart $restarts of at most $max_restarts"
done
