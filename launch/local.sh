#!/usr/bin/env bash
# Installs effnetv2_jax into the virtual environment .venv and trains EfficientNetV2 on the built-in digits, in four
# progressive stages, on the devices of this machine. Run it again to resume a stopped run; a finished run only prints
# its results again.
#   launch/local.sh [WORKDIR] [--config.FIELD=VALUE ...]
# WORKDIR is the run folder (default: runs/digits).
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

Next, fine-tune this network on your own images, in a folder with train/<class>/*.jpg:
  .venv/bin/effnetv2 train --config finetune:efficientnetv2-b0,folder --workdir runs/mine \\
      --config.data.data_dir=FOLDER --config.progressive.image_size='(96,)' --config.epochs=50 \\
      --config.init_from=$workdir --config.model.width=0.5 --config.model.depth=0.34
docs/own_images.md says what else to set, and which weights are a better start.
EOF
