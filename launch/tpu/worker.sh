#!/usr/bin/env bash
# Runs on a TPU's workers, called through ssh by the scripts beside it:
#   worker.sh setup [REPOSITORY] | run COMMAND … | log | stop
# What runs holds ~/effnetv2_run/lock, so that there is only one, and leaves its output and exit code there.
set -euo pipefail
project=$HOME/effnetv2_jax
state=$HOME/effnetv2_run
mkdir -p "$state"

is_running() {
  ! flock --nonblock "$state/lock" true
}

# Removes what an earlier setup installed: a file that has been deleted or renamed since would stay importable.
remove_code() {
  rm -rf "$project"/{configs,effnetv2_jax,launch,tests}
}

setup() {
  if is_running; then
    echo "$(hostname): something runs here, so nothing is installed"
    return
  fi
  mkdir -p "$project"
  if [[ -n ${1:-} ]]; then
    # No clone, which wants an empty folder: here may be .venv, what another setup installed, and files of runs.
    git init --quiet "$project"
    git -C "$project" fetch --depth 1 --quiet "$1" HEAD
    remove_code
    git -C "$project" reset --hard --quiet FETCH_HEAD
  else
    remove_code
    tar --extract --gzip --file="$HOME/effnetv2_jax.tar.gz" --directory="$project"
  fi
  # The machines' images have Python 3.10, too old for JAX: uv brings one.
  python3 -m pip install --quiet --user uv
  cd "$project"
  "$HOME/.local/bin/uv" venv --quiet --allow-existing --python 3.12 .venv
  "$HOME/.local/bin/uv" pip install --quiet --python .venv/bin/python --editable '.[tpu,train]'
  # JAX asks for it on v5e and newer: the TPU starts and stops much faster.
  sudo sh -c 'echo always >/sys/kernel/mm/transparent_hugepage/enabled' || true
  .venv/bin/effnetv2 info >/dev/null
  echo "$(hostname): installed"
}

run() {
  local asked
  asked=$(printf '%q ' "$@")
  exec 9>"$state/lock"
  if flock --nonblock 9; then
    start "$asked" "$@"
  elif [[ $asked != "$(<"$state/command")" ]]; then
    echo "$(hostname): something else runs, stop it first: $(<"$state/command")" >&2
    exit 1
  fi
  exec 9>&- # the run alone holds the lock
  tail --lines=+1 --follow --pid="$(<"$state/pid")" "$state/log"
  [[ -s $state/exit_code ]] || { echo "$(hostname): the run was killed" >&2 && exit 1; }
  exit "$(<"$state/exit_code")"
}

# Starts the command in a session of its own: a broken connection does not reach it.
start() {
  echo "$1" >"$state/command"
  rm -f "$state/exit_code" "$state/command_pid"
  : >"$state/log" # here, not in the background: whoever follows it must find it
  cd "$project"
  source launch/env.sh
  # shellcheck disable=SC2016 # expanded by the shell that starts
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

stop() {
  if is_running; then
    kill -TERM "$(<"$state/command_pid")"
    flock --timeout "${STOP_SECONDS:-600}" "$state/lock" true || { echo "$(hostname): still saving" >&2 && exit 1; }
    echo "$(hostname): stopped with exit code $(<"$state/exit_code")"
  else
    echo "$(hostname): nothing runs"
  fi
}

case ${1:-} in
  setup | run | log | stop) "$@" ;;
  *) echo "worker.sh: unknown verb '${1:-}'; known: setup run log stop" >&2 && exit 2 ;;
esac
