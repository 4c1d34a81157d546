# shellcheck shell=bash disable=SC2034,SC2154 # it shares variables with supervise.sh and machine.sh
# Sourced by supervise.sh. Follows a run, and stops it if its heartbeat stops.
#
# While a training run makes progress, it renews heartbeat.json in its folder at least once a minute:
#   {"time": 1700000000.5, "step": 1200, "stage": 2, "phase": "train"}
# The clocks of two machines may differ, so only a change of the time counts, as seen by the clock of this machine.

follower="" stopper="" # processes in the background, each the leader of a process group
stalled=""             # set by `follow` if the heartbeat of the run stopped

trap 'end_group "$follower"; end_group "$stopper"' EXIT
trap 'exit 130' INT # Ctrl-C, even if it only ended a gcloud

# end_group LEADER: ends a process with all that it has started.
end_group() {
  [[ -z $1 ]] || kill -KILL -- "-$1" 2>/dev/null || true
}

# in_background COMMAND...: starts a script in a process group of its own. Its process is then $!.
in_background() {
  set -m
  (trap '' TTIN TTOU && exec "$@") </dev/null & # a question on the terminal fails, instead of waiting forever
  set +m
}

# is_alive PROCESS
is_alive() {
  kill -0 "$1" 2>/dev/null
}

# read_heartbeat: prints the heartbeat, or nothing if there is none. If that cannot be known, prints why and fails.
read_heartbeat() {
  local text
  if ! text=$(gcloud storage cat "$workdir/heartbeat.json" ${project:+"--project=$project"} --quiet 2>&1); then
    [[ $text == *"matched no objects"* ]] && return
    echo "${text##*$'\n'}"
    return 1
  fi
  [[ -n $(field time "$text") ]] || { echo "it has no time" && return 1; }
  echo "$text"
}

# field NAME HEARTBEAT: prints a field of a heartbeat, or nothing if it has no such field.
field() {
  local pattern="\"$1\": *\"?([A-Za-z0-9.]+)"
  [[ ! $2 =~ $pattern ]] || echo "${BASH_REMATCH[1]}"
}

# follow: runs "${run[@]}" and returns its exit code. If the heartbeat does not change for $stall_minutes, stops the run
# and sets $stalled, unless the run has succeeded by then.
follow() {
  local code=0 beat seen known="" renewed="" unreadable="" since=$SECONDS next=$SECONDS
  local limit=$((stall_minutes * ${MINUTE_SECONDS:-60}))
  if [[ $stall_minutes -eq 0 ]]; then
    "${run[@]}"
    return
  fi
  if seen=$(read_heartbeat); then known=1; else seen=""; fi # that of an earlier start
  in_background "${run[@]}"
  follower=$!
  while is_alive "$follower"; do
    sleep "$tick"
    [[ $SECONDS -ge $next ]] || continue
    next=$((SECONDS + poll))
    if ! beat=$(read_heartbeat); then # decides nothing: the next heartbeat that can be read does
      [[ -n $unreadable ]] || report "cannot read $workdir/heartbeat.json: $beat"
      unreadable=1
      continue
    fi
    unreadable=""
    if [[ $(field time "$beat") != $(field time "$seen") ]]; then
      seen=$beat renewed=$known known=1 since=$SECONDS
    elif [[ -n $renewed && $(field phase "$seen") == "done" ]]; then
      continue # the run has nothing left to do but to end
    elif [[ $((SECONDS - since)) -ge $limit ]]; then
      stalled=1
      stop_run "$seen"
      break
    fi
  done
  wait "$follower" 2>/dev/null || code=$?
  follower=""
  [[ $code -ne 0 ]] || stalled=""
  return "$code"
}

# stop_run HEARTBEAT: reports the last heartbeat and stops the run on the TPU. Deletes a TPU on which that fails.
stop_run() {
  local end=$((SECONDS + ${STOP_LIMIT:-300})) last=""
  [[ -z $1 ]] || last=" (the last one: step $(field step "$1"), stage $(field stage "$1"), $(field phase "$1"))"
  report "no new heartbeat for $stall_minutes minutes$last; stopping the run"
  in_background "${stop[@]}"
  stopper=$!
  while is_alive "$stopper" && [[ $SECONDS -lt $end ]]; do sleep "$tick"; done
  ! is_alive "$stopper" || end_group "$stopper"
  if wait "$stopper" 2>/dev/null; then
    end=$((SECONDS + 10)) # the last lines of its output are on their way
    while is_alive "$follower" && [[ $SECONDS -lt $end ]]; do sleep 0.1; done
  else
    report "the run cannot be stopped; deleting $name"
    "${delete[@]}" || report "nothing to delete"
  fi
  stopper=""
  end_group "$follower"
}
