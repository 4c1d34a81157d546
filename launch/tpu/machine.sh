# shellcheck shell=bash disable=SC2034 # the scripts that source this file use the variables
# Sourced by the other scripts of this folder and by xpk.sh. Reads their options and calls `gcloud compute tpus`.

source "$(dirname "${BASH_SOURCE[0]}")/../explain.sh"

MODES="on-demand spot queued queued-spot"

name="" zone="" project="" type="" mode=on-demand version="" repository="" cluster="" worker=0 max_restarts=20
stall_minutes=15 kill_after="" dry_run=""
words=() # the command after --, word by word

refuse() {
  echo "${0##*/}: $*" >&2
  exit 2
}

# read_options "OPTION ..." ARGUMENT...: sets the variables above from the arguments. Refuses bad values, and options
# that are not listed.
read_options() {
  local listed=" zone project dry-run${1:+ $1}" option
  local known="$listed "
  shift
  while [[ $# -gt 0 ]]; do
    option=${1#--}
    option=${option%%=*}
    case $1 in
      --) words=("${@:2}") && break ;;
      --help) explain "$0" ;;
      --dry-run) dry_run=1 ;;
      --*)
        [[ $known == *" $option "* ]] || refuse "unknown option --$option; known:${listed// / --}"
        if [[ $1 != *=* ]]; then
          [[ $# -gt 1 ]] || refuse "--$option needs a value"
          set -- "$1=$2" "${@:3}"
        fi
        printf -v "${option//-/_}" %s "${1#*=}"
        ;;
      *)
        [[ -z $name ]] || refuse "only one name is allowed, got '$name' and '$1'"
        name=$1
        ;;
    esac
    shift
  done
  check_options "$known"
}

check_options() {
  [[ -n $name ]] || refuse "the TPU's name is missing"
  [[ $name =~ ^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$ ]] ||
    refuse "bad name '$name'; allowed: lower-case letters, digits and hyphens, a letter first, at most 63"
  [[ $zone =~ ^[a-z]+-[a-z]+[0-9]+-[a-z]$ ]] || refuse "bad or missing --zone '$zone'; must look like us-central1-a"
  [[ -z $project || $project =~ ^[a-z]([-a-z0-9.:]{0,61}[a-z0-9])?$ ]] ||
    refuse "bad --project '$project'; must be a project id, such as my-project-1"
  [[ -z $version || $version =~ ^[a-z0-9]([-a-z0-9._]{0,61}[a-z0-9])?$ ]] ||
    refuse "bad --version '$version'; must be a runtime version, such as v2-alpha-tpuv6e"
  [[ " $MODES " == *" $mode "* ]] || refuse "unknown --mode '$mode'; known: $MODES"
  [[ $max_restarts =~ ^[0-9]+$ ]] || refuse "--max-restarts must be a whole number, got '$max_restarts'"
  # A heartbeat may be a minute old when it is read, and is read twice a minute.
  [[ $stall_minutes =~ ^(0|[3-9]|[1-9][0-9]{1,5})$ ]] ||
    refuse "--stall-minutes must be a whole number of at least 3, or 0 for no watch, got '$stall_minutes'"
  [[ $kill_after =~ ^[0-9]{0,6}$ ]] || refuse "--kill-after must be a whole number of seconds, got '$kill_after'"
  if [[ $1 == *" type "* ]]; then
    # XPK has types that start with "tpu", such as tpu7x-16.
    [[ $type =~ ^(v|tpu)[0-9a-z]+-[0-9]+$ ]] || refuse "bad or missing --type '$type'; must look like v5litepod-8 or v4-32"
  fi
  [[ $1 != *" version "* || -n $version ]] || version=$(runtime_version)
}

# runtime_version: prints the version of the TPU software for the generation in --type. Source: "TPU software versions",
# cloud.google.com/tpu/docs.
runtime_version() {
  case ${type%-*} in
    v2 | v3 | v4) echo tpu-ubuntu2204-base ;;
    v5litepod) echo v2-alpha-tpuv5-lite ;;
    v5p) echo v2-alpha-tpuv5 ;;
    v6e) echo v2-alpha-tpuv6e ;;
    *) refuse "no runtime version is known for --type '$type' (known: v2 v3 v4 v5litepod v5p v6e); give --version" ;;
  esac
}

# call COMMAND...: runs a command, or with --dry-run prints it, quoted for a shell.
call() {
  if [[ -n $dry_run ]]; then
    printf '%q' "$1"
    printf ' %q' "${@:2}"
    echo
  else
    "$@"
  fi
}

# tpus GROUP VERB ARGUMENT...: calls `gcloud compute tpus` with the zone and the project.
tpus() {
  call gcloud compute tpus "$@" "--zone=$zone" ${project:+"--project=$project"} --quiet
}

# on_workers N|all VERB WORD...: runs worker.sh on worker N, or on all workers at once. Returns the exit code of the
# first worker that fails.
on_workers() {
  tpus tpu-vm ssh "$name" "--worker=$1" "--command=bash effnetv2_jax/launch/tpu/worker.sh$(printf ' %q' "${@:2}")"
}

is_queued() {
  [[ $mode == queued* ]]
}
