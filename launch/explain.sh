# shellcheck shell=bash
# Sourced by the other scripts, for their --help.

# explain SCRIPT: prints the comment at the top of a script, and exits.
explain() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1"
  exit
}
