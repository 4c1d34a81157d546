# shellcheck shell=bash
# Sourced by local.sh and test.sh. Makes a virtual environment and installs the project into it.

# find_python: prints the path of the first Python that the project supports.
find_python() {
  local name
  for name in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.14; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))'; then
      command -v "$name"
      return
    fi
  done
  echo "effnetv2_jax needs Python 3.11, 3.12, 3.13 or 3.14, but none was found; set PYTHON to the path of one" >&2
  return 1
}

# install_into FOLDER REQUIREMENT: installs the project in editable mode into a virtual environment, which it makes if
# needed.
install_into() {
  local folder=$1 requirement=$2 python
  if [[ ! -x "$folder/bin/python" ]]; then
    python=$(find_python)
    echo "making a virtual environment in $folder with $("$python" --version)"
    "$python" -m venv "$folder"
  fi
  echo "installing $requirement into $folder"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$requirement"
}
