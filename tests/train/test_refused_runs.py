"""Runs that cannot be: they are refused before anything is written."""

import pytest
from train.smoke import smoke_config

from effnetv2_jax.train.trainer import train


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["--config.platform=tpu"], RuntimeError, "'tpu'.* 'cpu'"),
        (["--config.platform=accelerator"], RuntimeError, "'accelerator'"),
        (["--config.platform=xpu"], ValueError, "platform must be .*'tpu', 'gpu' or 'cpu', got 'xpu'"),
        (["--config.batch_size=33"], ValueError, "batch_size 33 .* 2 devices.* 32 or 34"),
        (["--config.evaluation.batch_size=1"], ValueError, "evaluation.batch_size 1 .* 2"),
        (["--config.model.variant=b9"], ValueError, "'b9'.* efficientnetv2-s"),
        (["--config.data.dataset=mnist"], ValueError, "'mnist'.* digits"),
        (
            ["--config.progressive.preset=none"],
            ValueError,
            "preset must be 'official', 'paper' or 'custom', got 'none'",
        ),
        (["--config.progressive.image_size=(16,24)"], ValueError, "at least 17 px.* 16"),
        (["--config.evaluation.image_size=16"], ValueError, "at least 17 px.* evaluation.image_size 16"),
        (
            ["--config.accumulation_steps=5"],
            ValueError,
            "accumulation_steps 5 .* batch_size 32",
        ),
        (["--config.ema_decay=1.0"], ValueError, "ema_decay .*less than 1"),
        (["--config.log_every_steps=0"], ValueError, "log_every_steps .* 1.* 0"),
        (["--config.epochs=nan"], ValueError, "epochs .* 0.* nan"),
        (["--config.evaluation.weights=best"], ValueError, "weights must be 'averaged' or 'raw', got 'best'"),
        (["--config.model.dtype=float16"], ValueError, "dtype must be 'float32' or 'bfloat16', got 'float16'"),
        (["--config.data.preprocessing=v3"], ValueError, "'v3'.* legacy"),
    ],
)
def test_invalid_configs_are_refused_before_anything_is_written(tmp_path, overrides, error, message):
    workdir = tmp_path / "run"
    with pytest.raises(error, match=message):
        train(smoke_config(*overrides), str(workdir))
    assert not workdir.exists()


def test_weights_that_cannot_be_read_end_a_run_before_anything_is_compiled(tmp_path, monkeypatch):
    def unreadable(_):
        raise FileNotFoundError("tf_b0.safetensors does not exist")

    monkeypatch.setattr("effnetv2_jax.train.trainer.compiling", None)
    with pytest.raises(FileNotFoundError, match="tf_b0"):
        train(smoke_config(), str(tmp_path / "run"), unreadable)


@pytest.mark.parametrize("profile", ["5", "500:510"])
def test_invalid_steps_to_profile_are_refused_before_anything_is_written(tmp_path, profile):
    workdir = tmp_path / "run"
    with pytest.raises(ValueError, match="the steps to profile"):
        train(smoke_config(), str(workdir), profile=profile)
    assert not workdir.exists()
