"""The scripts of launch/tpu: the exact commands that they run, and the input that they refuse."""

import shlex
import shutil
import subprocess
import tarfile

import pytest
from launch.conftest import ROOT

PLACE = ("my-tpu", "--zone", "us-central1-a")
END = ["--zone=us-central1-a", "--quiet"]
WORKER = "bash effnetv2_jax/launch/tpu/worker.sh "
TPUS = ["gcloud", "compute", "tpus"]
# Options → the arguments after the name.
CREATIONS = {
    ("--type", "v4-32"): ["--accelerator-type=v4-32", "--version=tpu-ubuntu2204-base"],
    ("--type=v5litepod-8", "--mode", "spot"): [
        "--accelerator-type=v5litepod-8",
        "--version=v2-alpha-tpuv5-lite",
        "--spot",
    ],
    ("--type", "v5p-8", "--version", "mine"): ["--accelerator-type=v5p-8", "--version=mine"],
}


@pytest.mark.parametrize("options", CREATIONS, ids=" ".join)
def test_create_calls_gcloud_for_on_demand_and_spot_tpus(cloud, options):
    done = cloud.run("tpu/create.sh", *PLACE, *options)
    assert done.returncode == 0, done.stderr
    assert cloud.calls == [[*TPUS, "tpu-vm", "create", "my-tpu", *CREATIONS[options], *END]]


@pytest.mark.parametrize(("mode", "spot"), [("queued", []), ("queued-spot", ["--spot"])])
def test_a_queued_creation_returns_when_the_tpu_is_ready(cloud, mode, spot):
    cloud.answers = {"describe": [(0, "WAITING_FOR_RESOURCES"), (0, "PROVISIONING"), (0, "ACTIVE")]}
    done = cloud.run("tpu/create.sh", *PLACE, "--type", "v6e-8", "--mode", mode, "--project", "p")
    assert done.returncode == 0, done.stderr
    kind = ["--node-id=my-tpu", "--accelerator-type=v6e-8", "--runtime-version=v2-alpha-tpuv6e", *spot]
    end = [END[0], "--project=p", END[1]]
    describe = [*TPUS, "queued-resources", "describe", "my-tpu", "--format=value(state.state)", *end]
    assert cloud.calls == [[*TPUS, "queued-resources", "create", "my-tpu", *kind, *end], *[describe] * 3]


def test_a_failed_request_is_reported(cloud):
    cloud.answers = {"describe": [(0, "FAILED")]}
    done = cloud.run("tpu/create.sh", *PLACE, "--type", "v6e-8", "--mode", "queued")
    assert done.returncode == 1
    assert "the request for my-tpu ended as FAILED" in done.stderr


HOSTILE_WORDS = ["a b", "$(touch {0})", "`touch {0}`", "; touch {0} #", "' && touch {0} '", '"', "*", "\\", "", "a\nb"]


@pytest.mark.parametrize("script", ["tpu/run.sh", "tpu/setup.sh", "xpk.sh"])
def test_no_word_of_an_argument_becomes_a_command_of_a_shell(cloud, tmp_path, script):
    """Neither here nor on the workers, which get the words in a line that a shell reads."""
    touched = tmp_path / "touched"
    words = [word.replace("{0}", str(touched)) for word in HOSTILE_WORDS]
    if script == "tpu/setup.sh":
        arguments = [f"--repository=https://host/$(touch${{IFS}}{touched})"]
        words = [arguments[0].partition("=")[2]]
    else:
        arguments = ["--", "printf", r"%s\0", *words]
    options = ["--cluster=c", "--type=v6e-8"] if script == "xpk.sh" else []
    done = cloud.run(script, *PLACE, *options, *arguments)
    assert done.returncode == 0, done.stderr
    sent = next(word for word in reversed(cloud.calls[-1]) if word.startswith("--command="))
    line = sent.removeprefix("--command=").partition(" && exec ")[2] or sent.removeprefix("--command=")
    read = subprocess.run(["bash", "-c", f"set -- {line}\nprintf '%s\\0' \"$@\""], capture_output=True, text=True)
    assert read.stdout.split("\0")[:-1][-len(words) :] == words
    assert not touched.exists()


def test_setup_copies_the_working_tree(cloud):
    done = cloud.run("tpu/setup.sh", *PLACE)
    assert done.returncode == 0, done.stderr
    archive = ROOT / "dist" / "effnetv2_jax.tar.gz"
    copied = [str(ROOT / "launch/tpu/worker.sh"), str(archive)]
    assert cloud.calls == [
        [*TPUS, "tpu-vm", "scp", *copied, "my-tpu:.", "--worker=all", *END],
        [*TPUS, "tpu-vm", "ssh", "my-tpu", "--worker=all", "--command=bash worker.sh setup", *END],
    ]
    with tarfile.open(archive) as packed:
        names = packed.getnames()
    assert {"pyproject.toml", "launch/tpu/worker.sh", "effnetv2_jax/__init__.py"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", ".git/", "dist/"))]


def test_setup_packs_new_files_and_leaves_deleted_ones_out(cloud, tmp_path):
    root = tmp_path / "project"
    shutil.copytree(ROOT / "launch", root / "launch")
    (root / "deleted.py").touch()
    for words in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *words], cwd=root, check=True)
    (root / "deleted.py").unlink()
    (root / "new file.py").touch()
    done = cloud.run("tpu/setup.sh", *PLACE, root=root)
    assert done.returncode == 0, done.stderr
    with tarfile.open(root / "dist" / "effnetv2_jax.tar.gz") as packed:
        names = packed.getnames()
    assert {"launch/env.sh", "new file.py"} <= set(names)
    assert "deleted.py" not in names


def test_setup_clones_a_repository(cloud):
    cloud.run("tpu/setup.sh", *PLACE, "--repository", "https://host/owner/effnetv2_jax")
    assert cloud.calls[0][3:7] == ["tpu-vm", "scp", str(ROOT / "launch/tpu/worker.sh"), "my-tpu:."]
    assert "--command=bash worker.sh setup https://host/owner/effnetv2_jax" in cloud.calls[1]


def test_run_passes_the_command_on_unchanged_and_returns_its_exit_code(cloud):
    words = ["effnetv2", "train", "--config.progressive.image_size=(128, 224)", "--workdir", "gs://b/it's $HOME"]
    cloud.answers = {"ssh": [(75, "stopped")]}
    done = cloud.run("tpu/run.sh", *PLACE, "--", *words)
    assert done.returncode == 75
    (call,) = cloud.calls
    assert call[:7] == [*TPUS, "tpu-vm", "ssh", "my-tpu", "--worker=all"]
    assert shlex.split(call[7].removeprefix(f"--command={WORKER}")) == ["run", *words]


# Script and options → the words after the group and the verb.
SIMPLE = {
    ("log.sh",): ["tpu-vm", "ssh", "my-tpu", "--worker=0", f"--command={WORKER}log"],
    ("log.sh", "--worker", "3"): ["tpu-vm", "ssh", "my-tpu", "--worker=3", f"--command={WORKER}log"],
    ("stop.sh",): ["tpu-vm", "ssh", "my-tpu", "--worker=all", f"--command={WORKER}stop"],
    ("stop.sh", "--kill-after=60"): ["tpu-vm", "ssh", "my-tpu", "--worker=all", f"--command={WORKER}stop 60"],
    ("delete.sh",): ["tpu-vm", "delete", "my-tpu"],
    ("delete.sh", "--mode=queued-spot"): ["queued-resources", "delete", "my-tpu", "--force"],
}


@pytest.mark.parametrize("words", SIMPLE, ids=" ".join)
def test_log_stop_and_delete_call_gcloud(cloud, words):
    assert cloud.run(f"tpu/{words[0]}", *PLACE, *words[1:]).returncode == 0
    assert cloud.calls == [[*TPUS, *SIMPLE[words], *END]]


COMMAND = ("--", "effnetv2", "train", "--workdir=gs://b/r")
ALL = {
    "create.sh": ("--type", "v6e-8"),
    "setup.sh": (),
    "run.sh": COMMAND,
    "log.sh": (),
    "stop.sh": (),
    "delete.sh": (),
    "supervise.sh": ("--type", "v6e-8", *COMMAND),
}


@pytest.mark.parametrize("script", ALL)
def test_dry_run_prints_the_commands_and_calls_none(cloud, script):
    printed = cloud.run(f"tpu/{script}", *PLACE, "--dry-run", *ALL[script])
    assert printed.returncode == 0, printed.stderr
    assert cloud.calls == []
    lines = [shlex.split(line) for line in printed.stdout.splitlines()]
    assert all(line[:3] == TPUS for line in lines)
    if script != "supervise.sh":  # the calls of a real run depend on the answers
        cloud.run(f"tpu/{script}", *PLACE, *ALL[script])
        assert lines == cloud.calls


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("create.sh", ["--zone=us-central1-a", "--type=v6e-8"], "the TPU's name is missing"),
        ("create.sh", ["My_TPU", *PLACE[1:], "--type=v6e-8"], "bad name 'My_TPU'; allowed: lower-case letters"),
        ("create.sh", ["a", "b", *PLACE[1:]], "only one name is allowed, got 'a' and 'b'"),
        ("create.sh", ["a", "--type=v6e-8"], "bad or missing --zone ''; must look like us-central1-a"),
        ("create.sh", ["a", "--zone", "mars; rm -rf /"], "bad or missing --zone 'mars; rm -rf /'"),
        ("create.sh", PLACE, "bad or missing --type ''; must look like v5litepod-8"),
        ("create.sh", [*PLACE, "--type=v9-8"], "no runtime version is known for --type 'v9-8' (known: v2 v3 v4"),
        ("create.sh", [*PLACE, "--type=tpu7x-8"], "no runtime version is known for --type 'tpu7x-8' (known: v2 v3 v4"),
        ("create.sh", [*PLACE, "--type=v6e-8", "--mode=free"], "unknown --mode 'free'; known: on-demand spot queued"),
        ("create.sh", [*PLACE, "--speed=9"], "unknown option --speed; known: --zone --project --dry-run --type"),
        ("create.sh", [*PLACE, "--type"], "--type needs a value"),
        ("create.sh", [*PLACE, "--type=v6e-8", "--version=--flags-file=x"], "bad --version '--flags-file=x'"),
        ("stop.sh", [*PLACE, "--project=$(id)"], "bad --project '$(id)'; must be a project id"),
        *(
            ("delete.sh", [name, *PLACE[1:]], f"bad name '{name}'; allowed: lower-case letters")
            for name in ("../../etc", "a b", "a;id", "$(id)", "`id`", "a\tb", "a*", "a" * 64, "a-", "é")
        ),
        ("setup.sh", [*PLACE, "--repository=--upload-pack=x"], "bad --repository '--upload-pack=x'"),
        ("setup.sh", [*PLACE, "--repository=ext::sh -c id"], "bad --repository 'ext::sh -c id'"),
        ("setup.sh", [*PLACE, "--repository=/etc"], "bad --repository '/etc'"),
        ("run.sh", PLACE, "the command is missing: give it after --"),
        ("log.sh", [*PLACE, "--worker=all"], "--worker must be a whole number, got 'all'"),
        ("delete.sh", [*PLACE, "--type=v6e-8"], "unknown option --type; known: --zone --project --dry-run --mode"),
        ("supervise.sh", [*PLACE, "--type=v6e-8"], "the command is missing"),
        ("supervise.sh", [*PLACE, "--type=v6e-8", "--max-restarts=-1", *COMMAND], "must be a whole number, got '-1'"),
        (
            "supervise.sh",
            [*PLACE, "--type=v6e-8", "--", "effnetv2", "train", "--workdir", "runs/x"],
            "the command needs --workdir gs://…",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(cloud, script, arguments, message):
    done = cloud.run(f"tpu/{script}", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{script}: ")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert cloud.calls == []


@pytest.mark.parametrize(
    "script", ["local.sh", "test.sh", "xpk.sh", *(f"tpu/{name}.sh" for name in ("create", "run", "supervise", "stop"))]
)
def test_help_shows_the_usage_and_calls_nothing(cloud, script):
    done = cloud.run(script, "--help")
    assert done.returncode == 0, done.stderr
    assert f" launch/{script}" in done.stdout
    assert cloud.calls == []
