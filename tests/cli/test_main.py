"""The console command, its exit codes and its errors of one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from effnetv2_jax.cli.main import COMMANDS, main
from effnetv2_jax.version import __version__

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
        (["--config.batch_size=three"], 2, "batch_size must be int, got 'three'"),
        (["--config.loss.kind=hinge"], 2, "loss.kind must be 'softmax', 'sigmoid' or 'multi_hot', got 'hinge'"),
        (["--config.model.variant=b9"], 1, "unknown variant 'b9' (known variants: efficientnetv2-s"),
        (["--config.data.dataset=mnist"], 1, "unknown data set 'mnist'"),
        (["--config.platform=tpu"], 1, "platform 'tpu'"),
        (["--confik.x=1"], 2, "unknown arguments: --confik.x=1; did you mean --config?"),
        (["--acept-changes=seed"], 2, "unknown arguments: --acept-changes=seed; did you mean --accept-changes?"),
        (["--config.init_from=<weights>"], 1, "--config.init_from="),
        (["--config.init_from=x", "--config.init_framework=mxnet"], 1, "'mxnet'"),
    ],
)
def test_train_refuses_bad_overrides(capsys, monkeypatch, tmp_path, overrides, code, message):
    monkeypatch.chdir(tmp_path)  # the project's own configs are found from any folder
    returned, error = fails(capsys, *TRAIN, *overrides)
    assert message in error
    assert returned == code
    assert not list(tmp_path.iterdir())


def test_an_unknown_config_is_wrong_usage(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, error = fails(capsys, "train", "--config", "configs/imagenet.py", "--workdir", "x")
    assert code == 2
    assert "config 'configs/imagenet.py' not found; did you mean imagenet1k?" in error


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("configs/imagenet1k.py:efficientnetv2-z", "unknown variant 'efficientnetv2-z'"),
        ("configs/imagenet1k.py:efficientnetv2-s,papers", "unknown progressive preset 'papers'"),
        ("configs/finetune.py:efficientnetv2-s,mnist", "unknown data set 'mnist' to fine-tune on"),
    ],
)
def test_wrong_arguments_of_a_config_are_refused(capsys, config, message):
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
        (("evaluate", *CONFIG, "--workdir", "d"), "--step", ["-1"], "a whole number of at least 0"),
        (("info",), "--image-size", ["-1"], "a whole number of at least 1"),
        (("info",), "--num-classes", ["-1"], "a whole number of at least 0"),
        (TRAIN, "--processes", ["0"], "a whole number of at least 1"),
        (TRAIN, "--process-index", ["-1"], "a whole number of at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(capsys, command, flag, values, least):
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


@pytest.mark.parametrize(
    ("command", "module", "message"),
    [
        (TRAIN, "tensorflow", "training needs the extra 'train': pip install 'effnetv2_jax[train]'"),
        (("evaluate", *CONFIG, "--workdir", "d"), "tensorflow_datasets", "evaluation needs the extra 'train': "),
        (("data", "check", *CONFIG), "sklearn.datasets", "reading a data set needs the extra 'train': "),
        (("bench", *CONFIG), "psutil", "this benchmark needs the extra 'train': "),
        (("plan", *CONFIG), "tensorflow", "reading a data set to find its size needs the extra 'train': "),
        (("export", "w", "n", "--to", "onnx"), "onnxruntime", "this format needs the extra 'onnx': "),
        (("export", "w", "n", "--to", "savedmodel"), "tensorflow", "this format needs the extra 'export': "),
        (("search", "run", "d", *CONFIG), "optuna", "a search needs the extra 'search': "),
        (("info",), "torch", "this command needs the extra 'torch': pip install 'effnetv2_jax[torch]'"),
    ],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(capsys, monkeypatch, command, module, message):
    def without(_):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(f"effnetv2_jax.cli.commands.{command[0]}.run", without)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    code, error = fails(capsys, *command)
    assert code == 1
    assert error.startswith(f"effnetv2 {command[0]}: {message}")


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'mine'", name="mine"),
        ImportError("libfoo.so: cannot open shared object file"),
        ModuleNotFoundError("No module named 'numpy.nothing'", name="numpy.nothing"),
    ],
)
def test_another_error_of_an_import_is_shown_as_it_is(capsys, monkeypatch, error):
    def failing(_):
        raise error

    monkeypatch.setattr("effnetv2_jax.cli.commands.info.run", failing)
    assert fails(capsys, "info") == (1, f"effnetv2 info: {error}")


def test_a_damaged_package_of_an_extra_is_not_called_missing(capsys, monkeypatch):
    def damaged(_):
        raise ModuleNotFoundError("No module named 'tensorflow.python'", name="tensorflow.python")

    monkeypatch.setattr("effnetv2_jax.cli.commands.info.run", damaged)
    assert fails(capsys, "info") == (1, "effnetv2 info: No module named 'tensorflow.python'")


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"effnetv2_jax {__version__}\n"


def test_python_m_runs_the_command():
    done = subprocess.run([sys.executable, "-m", "effnetv2_jax", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)
    wrong = subprocess.run([sys.executable, "-m", "effnetv2_jax", "fly"], capture_output=True, text=True, cwd=ROOT)
    assert wrong.returncode == 2
    assert "unknown command 'fly' (commands: train, " in wrong.stderr


def test_no_command_shows_the_help_and_a_mistyped_one_its_neighbour(capsys):
    assert main([]) == 2
    shown = capsys.readouterr().err
    assert all(command in shown for command in COMMANDS)
    with pytest.raises(SystemExit) as exit_:
        main(["trian", "--config", "digits"])
    assert exit_.value.code == 2
    assert "unknown command 'trian'; did you mean train?" in capsys.readouterr().err


def test_help_after_a_config_lists_its_fields(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--config", "smoke", "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "--accept-changes" in text
    assert "--config.batch_size=32\n    int; images in a step" in text
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--config", "smok", "--help"])
    assert exit_.value.code == 2
    assert "did you mean smoke?" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["info", "efficientnetv2-s"], ["config", "configs/smoke.py"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_whose_reader_ends_stops_quietly(argv, unbuffered):
    command = [sys.executable, "-m", "effnetv2_jax", *argv]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        process = subprocess.run(
            command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False, env=environment
        )
    assert (process.returncode, process.stderr) == (1, "")


def test_a_broken_connection_is_no_reader_that_ended(monkeypatch):
    def unconnected(_):
        raise BrokenPipeError("the connection")

    monkeypatch.setattr("effnetv2_jax.cli.commands.info.run", unconnected)
    with pytest.raises(BrokenPipeError, match="the connection"):
        main(["info"])


def test_a_mistake_in_a_config_is_reported_before_tensorflow_is_imported():
    mistakes = {
        "--config.batch_sice=3": "unknown field 'batch_sice'",
        "--config.batch_size=0": "batch_size must be at least 1, got 0",
        "--config.data.layers=99": "data.layers 99 is outside 0..16",
        "--config.data.dataset=digit": "unknown data set 'digit'; did you mean digits?",
        "--config.progressive.image_size=(8,)": "image_size",
        "--config.platform=tpu": "the config requires the platform 'tpu'",
    }
    program = (
        "import sys; from effnetv2_jax.cli.main import main\n"
        f"for mistake in {list(mistakes)!r}: main([*{TRAIN!r}, mistake])\n"
        "print('tensorflow' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = process.stderr.splitlines()
    assert len(lines) == len(mistakes)
    assert all(message in line for message, line in zip(mistakes.values(), lines, strict=True)), lines
    assert process.stdout == "False\n"
