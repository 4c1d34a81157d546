# shellcheck shell=bash disable=SC2034,SC2154 # it shares variables with supervise.sh and machine.sh
# Sourced by supervise.sh. Follows a run, and stops it if its heartbeat stops.
#
# While a training run makes progress, it renews heartbeat.json in its folder at least once a minute:
#   {"time": 1700000000.5, "step": 1200, "stage": 2, "phase": "train"}
# The clocks of two machines may differ, so only a change of the time counts, as seen by the clock of this machine.

follower="" stopper="" # processes in the background, each the leader of a process group
stalled=""             # set by `follow` if the heartbeat of the run stopped
beat="" problem=""     # what `read_heartbeat` found
answer=$(mktemp)       # a file and not $(…) in the loop: bash 5.2 may fail if Ctrl-C comes while it reads a $(…)

trap 'end_group "$follower"; end_group "$stopper"; rm -f "$answer"' EXIT
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

# read_heartbeat: sets $beat to the heartbeat, or to nothing if there is none. If that cannot be known, sets $problem to
# the reason and fails.
read_heartbeat() {
  local text="" found=1
  beat="" problem=""
  gcloud storage cat "$workdir/heartbeat.json" ${project:+"--project=$project"} --quiet >"$answer" 2>&1 || found=""
  read -r -d "" text <"$answer" || true # all lines
  if [[ -n $found ]]; then
    field time "$text"
    [[ -n $REPLY ]] && beat=$text || problem="it has no time"
  elif [[ $text != *"matched no objects"* ]]; then
    problem=${text##*$'\n'}
  fi
  [[ -z $problem ]]
}

# field NAME HEARTBEAT: sets $REPLY to a field of a heartbeat, or to nothing if it has no such field.
field() {
  local pattern="\"$1\": *\"?([A-Za-z0-9.]+)"
  REPLY=""
  [[ ! $2 =~ $pattern ]] || REPLY=${BASH_REMATCH[1]}
}

# follow: runs "${run[@]}" and returns its exit code. If the heartbeat does not change for $stall_minutes, stops the run
# and sets $stalled, unless the run has succeeded by then.
follow() {
  local code=0 seen="" last="" known="" renewed="" unreadable="" since=$SECONDS next=$SECONDS
  local limit=$((stall_minutes * ${MINUTE_SECONDS:-60}))
  if [[ $stall_minutes -eq 0 ]]; then
    "${run[@]}"
    return
  fi
  ! read_heartbeat || seen=$beat known=1 # that of an earlier start
  in_background "${run[@]}"
  follower=$!
  while is_alive "$follower"; do
    sleep "$tick"
    [[ $SECONDS -ge $next ]] || continue
    next=$((SECONDS + poll))
    if ! read_heartbeat; then # decides nothing: the next heartbeat that can be read does
      [[ -n $unreadable ]] || report "cannot read $workdir/heartbeat.json: $problem"
      unreadable=1
      continue
    fi
    unreadable=""
    field time "$seen"
    last=$REPLY
    field time "$beat"
    if [[ $REPLY != "$last" ]]; then
      seen=$beat renewed=$known known=1 since=$SECONDS
    elif [[ -n $renewed && $seen == *'"phase": "done"'* ]]; then
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
  if [[ -n $1 ]]; then
    field step "$1" && last=" (the last one: step $REPLY"
    field stage "$1" && last+=", stage $REPLY"
    field phase "$1" && last+=", $REPLY)"
  fi
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
