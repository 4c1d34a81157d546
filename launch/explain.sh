# shellcheck shell=bash
# Sourced by the scripts beside it: their --help.

# explain SCRIPT: prints the comment that a script begins with, and ends.
explain() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1"
  exit
}
