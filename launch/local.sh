#!/usr/bin/env bash
# Installs effnetv2_jax into a virtual environment and trains EfficientNetV2 on the built-in digits, in four progressive
# stages, on whatever devices there are; safe to run again: a finished run only reports, a stopped one goes on.
#   launch/local.sh [WORKDIR] [--config.FIELD=VALUE ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/venv.sh
source launch/explain.sh
[[ ${1:-} != --help ]] || explain launch/local.sh

workdir=runs/digits
if [[ $# -gt 0 && $1 != --* ]]; then
  workdir=$1
  shift
fi

install_into .venv '.[train]'
.venv/bin/effnetv2 train --config configs/digits.py --workdir "$workdir" "$@"
cat <<EOF

Next, your own pictures, a folder with train/<class>/*.jpg:
  .venv/bin/effnetv2 train --config configs/finetune.py:efficientnetv2-b0,folder --workdir runs/mine \\
      --config.data.data_dir=FOLDER --config.init_from= --config.progressive.image_size='(128,)'
EOF
