"""launch/tpu/supervise.sh: what it does when a run ends or its TPU is lost."""

import pytest

CALL = ("my-tpu", "--zone=us-central1-a", "--type=v6e-8", "--mode=spot")
COMMAND = ("--", "effnetv2", "train", "--workdir", "gs://b/r")
ABSENT = (1, "ERROR: (gcloud.compute.tpus.tpu-vm.describe) NOT_FOUND: Resource 'my-tpu' was not found")
READY, PREEMPTED, TERMINATED = (0, "READY"), (0, "PREEMPTED"), (0, "TERMINATED")
UNKNOWN = (1, "ERROR: UNAVAILABLE")
STATE, CREATE, SETUP, RUN, DELETE = (
    "tpu-vm describe",
    "tpu-vm create",
    ["tpu-vm scp", "tpu-vm ssh"],
    "tpu-vm ssh",
    "tpu-vm delete",
)
ATTEMPT = [CREATE, *SETUP, RUN]


def supervise(cloud, states, codes, *options):
    cloud.answers = {"describe": states, "worker.sh run": [(code, "") for code in codes]}  # no heartbeat can be read
    return cloud.run("tpu/supervise.sh", *CALL, *options, *COMMAND)


def test_a_command_that_succeeds_deletes_the_tpu(cloud):
    done = supervise(cloud, [ABSENT], [0])
    assert done.returncode == 0, done.stderr
    assert cloud.verbs == [STATE, *ATTEMPT, DELETE]


def test_an_existing_tpu_is_used(cloud):
    assert supervise(cloud, [READY], [0]).returncode == 0
    assert cloud.verbs == [STATE, *SETUP, RUN, DELETE]


def test_a_run_stopped_after_saving_resumes_on_a_new_tpu(cloud):
    done = supervise(cloud, [ABSENT], [75, 0])
    assert done.returncode == 0
    assert cloud.verbs == [STATE, *ATTEMPT, DELETE, STATE, *ATTEMPT, DELETE]
    assert "stopped after saving" in done.stderr
    assert "restart 1 of at most 20" in done.stderr


@pytest.mark.parametrize("code", [1, 134, 255])
@pytest.mark.parametrize("state", [PREEMPTED, TERMINATED])
def test_a_lost_tpu_is_replaced(cloud, code, state):
    done = supervise(cloud, [ABSENT, READY, state], [code, 0])
    assert done.returncode == 0, done.stderr
    assert cloud.verbs == [STATE, *ATTEMPT, STATE, STATE, STATE, DELETE, *ATTEMPT, DELETE]
    assert f"my-tpu is {state[1]}" in done.stderr


def test_a_tpu_that_no_longer_exists_is_created_again(cloud):
    assert supervise(cloud, [ABSENT], [255, 0]).returncode == 0
    assert cloud.verbs == [STATE, *ATTEMPT, STATE, STATE, *ATTEMPT, DELETE]


def test_after_a_broken_connection_the_run_is_followed_on_the_same_tpu(cloud):
    assert supervise(cloud, [ABSENT, READY], [255, 0]).returncode == 0
    assert cloud.verbs == [STATE, *ATTEMPT, *[STATE] * 4, *SETUP, RUN, DELETE]


@pytest.mark.parametrize("code", [1, 2])
def test_a_failure_stops_at_once_and_keeps_the_tpu(cloud, code):
    done = supervise(cloud, [ABSENT, READY], [code])
    assert done.returncode == code
    assert cloud.verbs == [STATE, *ATTEMPT, *[STATE] * 3]
    assert f"failed with exit code {code}; my-tpu is kept" in done.stderr


def test_restarts_are_limited(cloud):
    done = supervise(cloud, [ABSENT], [75], "--max-restarts=2")
    assert done.returncode == 75
    assert cloud.verbs.count(CREATE) == 3
    assert cloud.verbs.count(DELETE) == 3
    assert "gave up after 2 restarts" in done.stderr.splitlines()[-1]


def test_a_first_tpu_that_cannot_be_created_is_an_error(cloud):
    cloud.answers = {"describe": [ABSENT], "create": [(1, "ERROR: quota")]}
    done = cloud.run("tpu/supervise.sh", *CALL, *COMMAND)
    assert done.returncode == 1
    assert cloud.verbs == [STATE, CREATE]


def test_creating_a_later_tpu_is_tried_again(cloud):
    cloud.answers = {
        "describe": [ABSENT],
        "create": [(0, ""), (1, "ERROR: no more capacity"), (0, "")],
        "worker.sh run": [(255, ""), (0, "")],
    }
    assert cloud.run("tpu/supervise.sh", *CALL, *COMMAND).returncode == 0
    assert cloud.verbs.count(CREATE) == 3


def test_an_unreadable_state_deletes_nothing(cloud):
    done = supervise(cloud, [(1, "ERROR: PERMISSION_DENIED")], [0])
    assert done.returncode == 1
    assert cloud.verbs == [STATE]
    assert "cannot read the state of my-tpu: ERROR: PERMISSION_DENIED" in done.stderr


def test_a_state_that_cannot_be_read_is_read_again(cloud):
    done = supervise(cloud, [ABSENT, UNKNOWN, PREEMPTED], [134, 0])
    assert done.returncode == 0, done.stderr
    assert cloud.verbs == [STATE, *ATTEMPT, *[STATE] * 3, DELETE, *ATTEMPT, DELETE]


def test_an_unavailable_cloud_does_not_end_the_supervision(cloud):
    done = supervise(cloud, [ABSENT, *[UNKNOWN] * 4, READY], [255, 0])
    assert done.returncode == 0, done.stderr
    assert cloud.verbs == [STATE, *ATTEMPT, *[STATE] * 8, *SETUP, RUN, DELETE]


def test_a_tpu_of_unknown_state_is_kept_after_a_failure(cloud):
    done = supervise(cloud, [ABSENT, UNKNOWN], [1])
    assert done.returncode == 1
    assert cloud.verbs == [STATE, *ATTEMPT, *[STATE] * 3]


def test_a_queued_request_is_deleted_before_the_next_one(cloud):
    request = ("queued-resources describe", [(0, "ACTIVE")])
    cloud.answers = dict([request, ("describe", [ABSENT]), ("worker.sh run", [(75, ""), (0, "")])])
    done = cloud.run("tpu/supervise.sh", *CALL[:3], *COMMAND)
    assert done.returncode == 0, done.stderr
    create = ["queued-resources delete", "queued-resources create", "queued-resources describe", *SETUP, RUN]
    assert cloud.verbs == [STATE, *create, create[0], STATE, *create, create[0]]
