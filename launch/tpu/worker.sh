#!/usr/bin/env bash
# Runs on the workers of a TPU. The other scripts of this folder call it through ssh.
#   worker.sh setup [REPOSITORY] | run COMMAND … | log | stop [SECONDS]
# Only one command runs at a time: it holds the lock ~/effnetv2_run/lock. Its output and exit code are in that folder too.
set -euo pipefail
project=$HOME/effnetv2_jax
state=$HOME/effnetv2_run
mkdir -p "$state"

is_running() {
  ! flock --nonblock "$state/lock" true
}

# remove_code: removes the code of an earlier setup, so that modules that were deleted since cannot be imported.
remove_code() {
  rm -rf "$project"/{configs,effnetv2_jax,launch,tests}
}

setup() {
  if is_running; then
    echo "$(hostname): a command is running, so nothing is installed"
    return
  fi
  mkdir -p "$project"
  if [[ -n ${1:-} ]]; then
    # `git clone` needs an empty folder, and this one may contain .venv, other code and run folders.
    git init --quiet "$project"
    git -C "$project" fetch --depth 1 --quiet -- "$1" HEAD
    remove_code
    git -C "$project" reset --hard --quiet FETCH_HEAD
  else
    remove_code
    tar --extract --gzip --file="$HOME/effnetv2_jax.tar.gz" --directory="$project"
  fi
  # TPU VMs have Python 3.10, which is too old for JAX; uv installs a newer one.
  python3 -m pip install --quiet --user uv
  cd "$project"
  "$HOME/.local/bin/uv" venv --quiet --allow-existing --python 3.12 .venv
  "$HOME/.local/bin/uv" pip install --quiet --python .venv/bin/python --editable '.[tpu,train]'
  # JAX recommends this on v5e and newer: the TPU starts and stops much faster.
  sudo sh -c 'echo always >/sys/kernel/mm/transparent_hugepage/enabled' || true
  .venv/bin/effnetv2 info >/dev/null
  echo "$(hostname): installed"
}

run() {
  local command_line
  command_line=$(printf '%q ' "$@")
  exec 9>"$state/lock"
  if flock --nonblock 9; then
    start "$command_line" "$@"
  elif [[ $command_line != "$(<"$state/command")" ]]; then
    echo "$(hostname): another command is running, stop it first: $(<"$state/command")" >&2
    exit 1
  fi
  exec 9>&- # from now on only the command holds the lock
  tail --lines=+1 --follow --pid="$(<"$state/pid")" "$state/log"
  [[ -s $state/exit_code ]] || { echo "$(hostname): the run was killed" >&2 && exit 1; }
  exit "$(<"$state/exit_code")"
}

# start COMMAND_LINE COMMAND...: starts the command in its own session, so that it survives a broken connection.
start() {
  echo "$1" >"$state/command"
  rm -f "$state/exit_code" "$state/command_pid"
  : >"$state/log" # must exist before it is followed
  cd "$project"
  source launch/env.sh
  # shellcheck disable=SC2016 # the inner shell expands it
  STATE=$state PATH=$project/.venv/bin:$PATH setsid bash -c \
    '"$@" & echo $! >"$STATE/command_pid"; code=0; wait $! || code=$?; echo "$code" >"$STATE/exit_code"' \
    run "${@:2}" >>"$state/log" 2>&1 </dev/null &
  echo $! >"$state/pid"
}

log() {
  [[ -f $state/log ]] || { echo "$(hostname): nothing has run here" >&2 && exit 1; }
  if is_running; then
    tail --lines=100 --follow --pid="$(<"$state/pid")" "$state/log"
  else
    tail --lines=100 "$state/log"
  fi
}

# stop [SECONDS]: ends the command with SIGTERM. If SECONDS are given, kills it after that time, and with it all processes
# that it has left.
stop() {
  local ended=1 group
  if ! is_running; then
    echo "$(hostname): nothing is running"
    return
  fi
  group=$(<"$state/pid")
  kill -TERM "$(<"$state/command_pid")" || true # it may have ended, and left processes that still hold the lock
  has_ended_within "${1:-${STOP_SECONDS:-600}}" || ended=""
  [[ -z ${1:-} ]] || kill -KILL -- "-$group" 2>/dev/null || true
  if [[ -n $ended ]]; then
    echo "$(hostname): stopped with exit code $(<"$state/exit_code")"
  elif [[ -n ${1:-} ]] && has_ended_within 10; then
    echo "$(hostname): killed, because it was still running $1 s after SIGTERM"
  else
    echo "$(hostname): still running after SIG$([[ -n ${1:-} ]] && echo KILL || echo TERM)" >&2
    exit 1
  fi
}

# has_ended_within SECONDS: waits until the command has ended, and fails if it is still running then.
has_ended_within() {
  flock --timeout "$1" "$state/lock" true
}

case ${1:-} in
  setup | run | log | stop) "$@" ;;
  *) echo "worker.sh: unknown verb '${1:-}'; known: setup run log stop" >&2 && exit 2 ;;
esac
