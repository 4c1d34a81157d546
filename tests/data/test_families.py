import subprocess
import sys

import numpy as np
import pytest

from effnetv2_jax.data.families import FAMILIES, preprocessing_family


@pytest.mark.parametrize(
    ("name", "black", "white"),
    [
        ("v2", [-1.0] * 3, [127 / 128] * 3),
        ("finetune", [-1.0] * 3, [1.0] * 3),
        ("legacy", [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]),
    ],
)
def test_black_and_white_become_what_the_network_was_trained_on(name, black, white):
    family = preprocessing_family(name)
    np.testing.assert_allclose((0 - np.array(family.mean)) / family.std, black, rtol=1e-12)
    np.testing.assert_allclose((255 - np.array(family.mean)) / family.std, white, rtol=1e-12)


def test_only_the_v2_family_looks_at_the_evaluation_size():
    crops = {
        name: [family.crops_in_evaluation(size) for size in (224, 319, 320, 480)] for name, family in FAMILIES.items()
    }
    assert crops == {"v2": [True, True, False, False], "legacy": [True] * 4, "finetune": [False] * 4}


def test_an_unknown_family_is_refused_with_the_allowed_names():
    with pytest.raises(ValueError, match="'v3'; allowed: v2, legacy, finetune"):
        preprocessing_family("v3")


def test_what_the_training_step_imports_leaves_tensorflow_out():
    modules = ", ".join(f"effnetv2_jax.data.{name}" for name in ("families", "config", "sources.datasets"))
    code = f"import sys, {modules}; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
