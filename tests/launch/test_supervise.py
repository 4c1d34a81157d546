"""The supervisor's loop: what it does when a run ends, and when the machine under it does."""

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
    cloud.answers = {"describe": states, "worker.sh run": [(code, "") for code in codes]}
    return cloud.run("tpu/supervise.sh", *CALL, *options, *COMMAND)


def test_a_command_that_is_done_deletes_the_machine(cloud):
    done = supervise(cloud, [ABSENT], [0])
    assert done.returncode == 0, done.stderr
    assert cloud.verbs == [STATE, *ATTEMPT, DELETE]


def test_a_machine_that_is_there_is_used(cloud):
    assert supervise(cloud, [READY], [0]).returncode == 0
    assert cloud.verbs == [STATE, *SETUP, RUN, DELETE]


def test_a_run_stopped_after_saving_goes_on_on_a_new_machine(cloud):
    done = supervise(cloud, [ABSENT], [75, 0])
    assert done.returncode == 0
    assert cloud.verbs == [STATE, *ATTEMPT, DELETE, STATE, *ATTEMPT, DELETE]
    assert "stopped after saving" in done.stderr
    assert "restart 1 of at most 20" in done.stderr


@pytest.mark.parametrize("code", [1, 134, 255])
@pytest.mark.parametrize("state", [PREEMPTED, TERMINATED])
def test_a_lost_machine_is_replaced(cloud, code, state):
    done = supervise(cloud, [ABSENT, READY, state], [code, 0])
    assert done.returncode == 0, done.stderr
    assert cloud.verbs == [STATE, *ATTEMPT, STATE, STATE, STATE, DELETE, *ATTEMPT, DELETE]
    assert f"my-tpu is {state[1]}" in done.stderr


def test_a_machine_that_has_vanished_is_made_again(cloud):
    assert supervise(cloud, [ABSENT], [255, 0]).returncode == 0
    assert cloud.verbs == [STATE, *ATTEMPT, STATE, STATE, *ATTEMPT, DELETE]


def test_a_broken_connection_is_followed_again_on_the_same_machine(cloud):
    assert supervise(cloud, [ABSENT, READY], [255, 0]).returncode == 0
    assert cloud.verbs == [STATE, *ATTEMPT, *[STATE] * 4, *SETUP, RUN, DELETE]


@pytest.mark.parametrize("code", [1, 2])
def test_a_failure_stops_at_once_and_leaves_the_machine(cloud, code):
    done = supervise(cloud, [ABSENT, READY], [code])
    assert done.returncode == code
    assert cloud.verbs == [STATE, *ATTEMPT, *[STATE] * 3]
    assert f"failed with exit code {code}; my-tpu is left as it is" in done.stderr


def test_restarts_are_limited(cloud):
    done = supervise(cloud, [ABSENT], [75], "--max-restarts=2")
    assert done.returncode == 75
    assert cloud.verbs.count(CREATE) == 3
    assert cloud.verbs.count(DELETE) == 3
    assert done.stderr.strip().splitlines()[-1] == "supervise.sh: gave up after 2 restarts; the same command goes on"


def test_a_first_machine_that_cannot_be_had_is_an_error(cloud):
    cloud.answers = {"describe": [ABSENT], "create": [(1, "ERROR: quota")]}
    done = cloud.run("tpu/supervise.sh", *CALL, *COMMAND)
    assert done.returncode == 1
    assert cloud.verbs == [STATE, CREATE]


def test_a_later_machine_is_waited_for(cloud):
    cloud.answers = {
        "describe": [ABSENT],
        "create": [(0, ""), (1, "ERROR: no more capacity"), (0, "")],
        "worker.sh run": [(255, ""), (0, "")],
    }
    assert cloud.run("tpu/supervise.sh", *CALL, *COMMAND).returncode == 0
    assert cloud.verbs.count(CREATE) == 3


def test_an_unknown_state_deletes_nothing(cloud):
    done = supervise(cloud, [(1, "ERROR: PERMISSION_DENIED")], [0])
    assert done.returncode == 1
    assert cloud.verbs == [STATE]
    assert "cannot ask for the state of my-tpu: ERROR: PERMISSION_DENIED" in done.stderr


def test_a_state_that_cannot_be_asked_for_is_asked_for_again(cloud):
    done = supervise(cloud, [ABSENT, UNKNOWN, PREEMPTED], [134, 0])
    assert done.returncode == 0, done.stderr
    assert cloud.verbs == [STATE, *ATTEMPT, *[STATE] * 3, DELETE, *ATTEMPT, DELETE]


def test_a_broken_connection_to_the_cloud_itself_does_not_end_the_supervision(cloud):
    done = supervise(cloud, [ABSENT, *[UNKNOWN] * 4, READY], [255, 0])
    assert done.returncode == 0, done.stderr
    assert cloud.verbs == [STATE, *ATTEMPT, *[STATE] * 8, *SETUP, RUN, DELETE]


def test_a_failure_on_a_machine_of_unknown_state_leaves_it(cloud):
    done = supervise(cloud, [ABSENT, UNKNOWN], [1])
    assert done.returncode == 1
    assert cloud.verbs == [STATE, *ATTEMPT, *[STATE] * 3]


def test_a_queued_request_is_deleted_before_it_is_made_again(cloud):
    request = ("queued-resources describe", [(0, "ACTIVE")])
    cloud.answers = dict([request, ("describe", [ABSENT]), ("worker.sh run", [(75, ""), (0, "")])])
    done = cloud.run("tpu/supervise.sh", *CALL[:3], *COMMAND)
    assert done.returncode == 0, done.stderr
    create = ["queued-resources delete", "queued-resources create", "queued-resources describe", *SETUP, RUN]
    assert cloud.verbs == [STATE, *create, create[0], STATE, *create, create[0]]
