"""launch/tpu/supervise.sh: what it does when the heartbeat of a run stops. No test waits for minutes to pass."""

import json
import signal
import time

import pytest
from launch.test_supervise import ABSENT, CALL, COMMAND, CREATE, DELETE, PREEMPTED, READY

NO_BEAT = (1, "ERROR: (gcloud.storage.cat) The following URLs matched no objects or files:\ngs://b/r/heartbeat.json")
FORBIDDEN = (1, "ERROR: (gcloud.storage.cat) HTTPError 403: no access")
CAT, RUN, STOP = "storage cat", "worker.sh run", "worker.sh stop"
HEARTBEAT = ["gcloud", "storage", "cat", "gs://b/r/heartbeat.json", "--quiet"]
STOPPED, NEVER = (STOP, 1), (STOP, 1000)


def beat(number, phase="train"):
    return (0, json.dumps({"time": 1e9 + number, "step": 100 * number, "stage": 2, "phase": phase}))


MOVING = [beat(number) for number in range(1000)]


def supervise(cloud, beats, runs, *options, states=(ABSENT, READY), stops=((0, ""),), start=None, **environment):
    cloud.answers = {"describe": list(states), CAT: list(beats), RUN: list(runs), STOP: list(stops)}
    environment = {"MINUTE_SECONDS": "0"} | environment  # a heartbeat has stopped when two readings are equal
    return (start or cloud.run)("tpu/supervise.sh", *CALL, *options, *COMMAND, **environment)


def count(cloud, words):
    return sum(words in " ".join(call) for call in cloud.calls)


def test_a_heartbeat_that_moves_disturbs_nothing(cloud):
    done = supervise(cloud, MOVING, [(0, "", (CAT, 10))])
    assert done.returncode == 0, done.stderr
    assert "heartbeat" not in done.stderr
    assert (count(cloud, RUN), count(cloud, STOP)) == (1, 0)
    assert next(call for call in cloud.calls if call[1] == "storage") == HEARTBEAT


@pytest.mark.parametrize("code", [1, 75, 255])
def test_a_run_whose_heartbeat_stops_is_stopped_and_resumed_on_the_same_tpu(cloud, code):
    stopping = [beat(7, "evaluate")] * 2 + MOVING
    done = supervise(cloud, stopping, [(code, "the last line", STOPPED), (0, "")])
    assert done.returncode == 0, done.stderr
    assert (
        "supervise.sh: no new heartbeat for 15 minutes (the last one: step 700, stage 2, evaluate); stopping the run\n"
        in done.stderr
    )
    assert "restart 1 of at most 20" in done.stderr
    assert "the last line" in done.stdout + done.stderr
    assert (count(cloud, RUN), count(cloud, STOP)) == (2, 1)
    assert (cloud.verbs.count(CREATE), cloud.verbs.count(DELETE)) == (1, 1)
    assert any("--worker=all" in call and "stop 60" in " ".join(call) for call in cloud.calls)
    assert cloud.alive == []


def test_a_heartbeat_that_never_appears_counts_from_the_start(cloud):
    done = supervise(cloud, [NO_BEAT, NO_BEAT, *MOVING], [(1, "", STOPPED), (0, "")])
    assert done.returncode == 0, done.stderr
    assert "no new heartbeat for 15 minutes; stopping the run" in done.stderr


def test_the_heartbeat_of_an_earlier_start_is_not_one_of_this_start(cloud):
    done = supervise(cloud, [beat(7, "done")] * 2 + MOVING, [(1, "", STOPPED), (0, "")])
    assert done.returncode == 0, done.stderr
    assert (count(cloud, RUN), count(cloud, STOP)) == (2, 1)


def test_the_first_heartbeat_that_can_be_read_may_be_that_of_an_earlier_start(cloud):
    done = supervise(cloud, [FORBIDDEN, *[beat(7, "done")] * 2, *MOVING], [(1, "", STOPPED), (0, "")])
    assert done.returncode == 0, done.stderr
    assert (count(cloud, RUN), count(cloud, STOP)) == (2, 1)


def test_a_run_that_is_done_may_take_its_time_to_end(cloud):
    done = supervise(cloud, [NO_BEAT, beat(1), beat(2, "done")], [(0, "", (CAT, 10))])
    assert done.returncode == 0, done.stderr
    assert (count(cloud, RUN), count(cloud, STOP)) == (1, 0)
    assert "done after 0 restarts" in done.stderr


def test_a_run_that_ends_well_while_it_is_being_stopped_is_done(cloud):
    done = supervise(cloud, [beat(1)], [(0, "", STOPPED)])
    assert done.returncode == 0, done.stderr
    assert "done after 0 restarts" in done.stderr


def test_a_heartbeat_that_cannot_be_read_decides_nothing_and_is_reported_once(cloud):
    done = supervise(cloud, [FORBIDDEN], [(0, "", (CAT, 10))])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot read gs://b/r/heartbeat.json: ERROR: (gcloud.storage.cat) HTTPError 403") == 1
    assert (count(cloud, RUN), count(cloud, STOP)) == (1, 0)


def test_a_heartbeat_without_a_time_decides_nothing(cloud):
    done = supervise(cloud, [(0, '{"step": 3}')], [(0, "", (CAT, 10))])
    assert done.returncode == 0, done.stderr
    assert "cannot read gs://b/r/heartbeat.json: it has no time" in done.stderr


def test_a_failure_between_two_heartbeats_is_still_a_failure(cloud):
    done = supervise(cloud, MOVING, [(2, "", (CAT, 5))])
    assert done.returncode == 2
    assert "failed with exit code 2; my-tpu is kept" in done.stderr


def test_a_run_stopped_after_saving_needs_no_heartbeat_to_resume(cloud):
    done = supervise(cloud, MOVING, [(75, "", (CAT, 5)), (0, "")])
    assert done.returncode == 0, done.stderr
    assert (count(cloud, RUN), count(cloud, STOP)) == (2, 0)


def test_a_tpu_on_which_the_run_cannot_be_stopped_is_replaced(cloud):
    """Its connection hangs as well."""
    states = (ABSENT, ABSENT)
    done = supervise(
        cloud, [beat(7)] * 2 + MOVING, [(1, "", NEVER), (0, "")], states=states, stops=[(1, "still running")]
    )
    assert done.returncode == 0, done.stderr
    assert "the run cannot be stopped; deleting my-tpu" in done.stderr
    assert (cloud.verbs.count(CREATE), cloud.verbs.count(DELETE)) == (2, 2)
    assert cloud.alive == []


def test_a_stop_that_hangs_is_given_up(cloud):
    done = supervise(
        cloud,
        [beat(7)] * 2 + MOVING,
        [(1, "", NEVER), (0, "")],
        states=(ABSENT, PREEMPTED),
        stops=[(0, "", (RUN, 1000))],
        STOP_LIMIT="0",
    )
    assert done.returncode == 0, done.stderr
    assert "the run cannot be stopped; deleting my-tpu" in done.stderr
    assert cloud.alive == []


def test_stalls_are_restarts_and_limited(cloud):
    done = supervise(cloud, [beat(7)], [(1, "", (STOP, n)) for n in (1, 2)], "--max-restarts=1")
    assert done.returncode == 75
    assert count(cloud, RUN) == 2
    assert "gave up after 1 restarts" in done.stderr.splitlines()[-1]


def test_the_watch_can_be_switched_off(cloud):
    done = supervise(cloud, [beat(7)], [(0, "")], "--stall-minutes=0")
    assert done.returncode == 0, done.stderr
    assert count(cloud, CAT) == 0


@pytest.mark.parametrize(
    "command", [("--workdir=gs://b/my run/",), ("--workdir", "gs://b/my run"), ("x", "--workdir=gs://b/my run")]
)
def test_the_run_folder_of_the_command_is_watched(cloud, command):
    cloud.answers = {"describe": [READY], CAT: [NO_BEAT]}
    cloud.run("tpu/supervise.sh", *CALL, "--project=p", "--", "effnetv2", "train", *command)
    assert next(call for call in cloud.calls if call[1] == "storage") == [
        *HEARTBEAT[:3],
        "gs://b/my run/heartbeat.json",
        "--project=p",
        "--quiet",
    ]


def test_the_run_folder_is_found_in_a_command_for_another_shell(cloud):
    cloud.answers = {"describe": [READY], CAT: [NO_BEAT]}
    cloud.run("tpu/supervise.sh", *CALL, "--", "bash", "-c", "effnetv2 train --workdir gs://b/r --profile 1:2")
    assert HEARTBEAT in cloud.calls


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_supervisor_that_is_stopped_leaves_no_process_behind(cloud, number):
    process = supervise(cloud, MOVING, [(0, "", NEVER)], start=cloud.start)
    while count(cloud, CAT) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)  # returns when no process holds the pipes any more
    assert process.returncode in (-number, 128 + number), errors
    assert cloud.alive == []


def test_bad_minutes_are_refused(cloud):
    for minutes in ("-1", "1", "2", "1.5", "08", "never", ""):
        done = cloud.run("tpu/supervise.sh", *CALL, f"--stall-minutes={minutes}", *COMMAND)
        assert done.returncode == 2
        assert (
            f"--stall-minutes must be a whole number of at least 3, or 0 for no watch, got '{minutes}'" in done.stderr
        )
    done = cloud.run("tpu/stop.sh", *CALL[:2], "--kill-after=soon")
    assert done.returncode == 2
    assert "--kill-after must be a whole number of seconds, got 'soon'" in done.stderr
