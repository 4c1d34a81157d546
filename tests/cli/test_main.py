"""The console command: exit codes, and errors in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from effnetv2_jax.cli.main import COMMANDS, main

ROOT = Path(__file__).parent.parent.parent


def fails(capsys, *argv):
    """Runs a command and returns its exit code and the only line that it prints to the standard error."""
    code = main(argv)
    error = capsys.readouterr().err.strip()
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1, error
    return code, error


TRAIN = ("train", "--config", "configs/smoke.py", "--workdir", "unused")


@pytest.mark.parametrize(
    ("overrides", "code", "message"),
    [
        (["--config.batch_sice=3"], 2, "batch_sice"),
        (["--config.batch_size=three"], 2, "batch_size=three"),
        (["--config.model.variant=b9"], 1, "unknown variant 'b9'; known variants: efficientnetv2-s"),
        (["--config.data.dataset=mnist"], 1, "unknown data set 'mnist'"),
        (["--config.platform=tpu"], 1, "platform 'tpu'"),
        (["--confik.x=1"], 2, "unknown arguments: --confik.x=1"),
        (["--config.init_from=<weights>"], 1, "--config.init_from="),
        (["--config.init_from=x", "--config.init_framework=keras"], 1, "'keras'"),
    ],
)
def test_train_refuses_bad_overrides(capsys, monkeypatch, tmp_path, overrides, code, message):
    monkeypatch.chdir(tmp_path)  # the project's own configs are found from any folder
    returned, error = fails(capsys, *TRAIN, *overrides)
    assert message in error
    assert returned == code
    assert not list(tmp_path.iterdir())


def test_a_missing_config_file_is_refused_with_the_names_of_existing_ones(capsys):
    code, error = fails(capsys, "train", "--config", "configs/imagenet.py", "--workdir", "x")
    assert code == 2
    assert "configs/imagenet.py not found" in error
    assert "configs/digits.py, configs/finetune.py" in error


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("configs/imagenet1k.py:efficientnetv2-z", "unknown variant 'efficientnetv2-z'"),
        ("configs/imagenet1k.py:efficientnetv2-s,papers", "unknown progressive preset 'papers'"),
        ("configs/finetune.py:efficientnetv2-s,mnist", "unknown data set 'mnist' to fine-tune on"),
    ],
)
def test_a_config_s_argument_is_checked(capsys, config, message):
    code, error = fails(capsys, "train", "--config", config, "--workdir", "x")
    assert code in (1, 2)
    assert message in error


def test_commands_without_overrides_refuse_them(capsys):
    assert fails(capsys, "info", "--config.x=1") == (2, "effnetv2 info: unknown arguments: --config.x=1")


CONFIG = ("--config", "configs/smoke.py")
CONVERT = ("convert", "a", "b", "--framework", "timm", "--to", "flax")


@pytest.mark.parametrize(
    ("command", "flag", "values", "least"),
    [
        (("bench", *CONFIG), "--images", ["0", "-1", "1.5", "many", ""], "a whole number of at least 1"),
        (("bench", *CONFIG), "--steps", ["0", "²"], "a whole number of at least 1"),
        (("bench", *CONFIG), "--threads", ["0"], "a whole number of at least 1"),
        (("plan", *CONFIG), "--price", ["-1", "0", "nan", "inf", "much"], "a number above 0"),
        (("plan", *CONFIG), "--layers", ["-2", "0"], "a whole number of at least 1"),
        (("plan", "--variant", "efficientnetv2-b0"), "--batch-per-chip", ["0"], "a whole number of at least 1"),
        (CONVERT, "--width", ["0", "-0.5", "nan"], "a number above 0"),
        (CONVERT, "--depth", ["inf"], "a number above 0"),
        (CONVERT, "--eval-size", ["0"], "a whole number of at least 1"),
        (("predict", "--checkpoint", "w", "i.png"), "--top", ["0", "-1"], "a whole number of at least 1"),
        (("predict", "--checkpoint", "w", "i.png"), "--eval-size", ["-3"], "a whole number of at least 1"),
        (("evaluate", *CONFIG, "--workdir", "d"), "--step", ["-1"], "a whole number of at least 1"),
        (("info",), "--image-size", ["-1"], "a whole number of at least 1"),
        (("info",), "--num-classes", ["-1"], "a whole number of at least 0"),
        (TRAIN, "--processes", ["0"], "a whole number of at least 1"),
        (TRAIN, "--process-index", ["-1"], "a whole number of at least 0"),
    ],
)
def test_a_number_out_of_range_is_wrong_usage(capsys, command, flag, values, least):
    for value in values:
        with pytest.raises(SystemExit) as exit_:
            main([*command, flag, value])
        assert exit_.value.code == 2
        assert f"argument {flag}: {value!r} is not {least}" in capsys.readouterr().err


def test_evaluate_needs_weights(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", "--config", "configs/smoke.py"])
    assert exit_.value.code == 2
    assert "one of the arguments --workdir --checkpoint is required" in capsys.readouterr().err
    code, error = fails(capsys, "evaluate", "--config", "configs/smoke.py", "--workdir", "nowhere")
    assert code == 1
    assert "nowhere" in error


@pytest.mark.parametrize(
    "argv", [["--debug", "info", "nothing"], ["info", "--debug", "nothing"], ["info", "nothing", "--debug"]]
)
def test_debug_raises_the_error_instead_of_reporting_it(argv):
    with pytest.raises(ValueError, match="unknown variant"):
        main(argv)


def test_an_error_of_tensorflow_is_reported_in_one_line(capsys, monkeypatch):
    tf = pytest.importorskip("tensorflow")

    def unreachable(_):
        raise tf.errors.FailedPreconditionError(
            None, None, "Could not resolve host: googleapis\n\t when reading gs://b/run"
        )

    monkeypatch.setattr("effnetv2_jax.cli.commands.info.run", unreachable)
    line = "effnetv2 info: Could not resolve host: googleapis when reading gs://b/run"
    assert fails(capsys, "info") == (1, line)


def test_a_bug_keeps_its_traceback_and_reporting_errors_does_not_import_tensorflow(monkeypatch):
    def faulty(_):
        raise AssertionError("a bug")

    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setattr("effnetv2_jax.cli.commands.info.run", faulty)
    with pytest.raises(AssertionError, match="a bug"):
        main(["info"])
    assert "tensorflow" not in sys.modules


def test_info_lists_all_variants_or_the_layers_of_one(capsys):
    from effnetv2_jax import VARIANTS

    assert main(["info"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in VARIANTS)
    assert "21,458,488   8.366 B" in table
    assert max(len(line) for line in table.splitlines()) <= 80
    assert main(["info", "efficientnetv2-b0", "--num-classes", "10"]) == 0
    rows = capsys.readouterr().out
    assert "Fused-MBConv4, 3×3 /2" in rows
    assert "block_20" in rows
    assert fails(capsys, "info", "efficientnetv2-s", "--image-size", "8")[0] == 1


def test_python_m_runs_the_command():
    done = subprocess.run([sys.executable, "-m", "effnetv2_jax", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)
    wrong = subprocess.run([sys.executable, "-m", "effnetv2_jax", "fly"], capture_output=True, text=True, cwd=ROOT)
    assert wrong.returncode == 2
    assert "invalid choice: 'fly'" in wrong.stderr
