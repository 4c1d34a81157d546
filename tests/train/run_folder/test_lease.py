"""Leases: who gets one, who is refused, and who finds out that it is lost. Time passes only when a test says so."""

import threading

import pytest
from etils import epath
from fake_bucket import use_as_bucket

from effnetv2_jax.train.run_folder.lease import Lease, LeaseTimes, OwnershipLost


class Clock:
    """A clock that stands still until someone sleeps. Each entry of `during` is called within one sleep."""

    def __init__(self, *during):
        self.now = 1000.0
        self.slept = []
        self._during = list(during)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        if self._during and (act := self._during.pop(0)):
            act()

    def times(self, renewal=15.0):
        return LeaseTimes(renewal=renewal, clock=lambda: self.now, sleep=self.sleep)


@pytest.fixture(params=["a folder", "a bucket"])
def path(request, tmp_path, monkeypatch):
    if request.param == "a folder":
        return epath.Path(tmp_path) / "owner.json"
    use_as_bucket(tmp_path / "bucket", monkeypatch)
    (epath.Path("gs://bucket") / "run").mkdir()
    return epath.Path("gs://bucket/run/owner.json")


def abandoned(path):
    """Leaves the owner file of a process that was killed, and returns its lease."""
    lease = Lease(path, Clock().times())
    lease.__enter__()
    lease._ended.set()
    lease._thread.join()
    return lease


def test_a_new_folder_is_taken_at_once_and_left_without_an_owner_file(path, capsys):
    clock = Clock()
    with Lease(path, clock.times()) as lease:
        assert clock.slept == [3.0]
        lease.check()
        assert path.exists()
    assert list(path.parent.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_the_lease_of_a_killed_process_is_taken_over_after_its_length(path, capsys):
    abandoned(path)
    clock = Clock()
    with Lease(path, clock.times()):
        assert 60 < sum(clock.slept[:-1]) <= 65
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "waiting up to 60 s" in said
    assert "process" in said


def test_a_process_that_renews_keeps_others_out(path):
    living = abandoned(path)
    clock = Clock(None, None, living.renew)
    with pytest.raises(ValueError, match=r"in use by process \d+ on .*--workdir"), Lease(path, clock.times()):
        pass
    assert len(clock.slept) == 3
    living.check()


def test_a_lease_that_its_owner_ends_is_taken_at_once(path):
    abandoned(path)
    clock = Clock(path.unlink)
    with Lease(path, clock.times()):
        assert clock.slept == [5.0, 3.0]


def test_of_two_that_start_at_once_the_last_writer_wins(path):
    def start_the_other():
        other.append(Lease(path, Clock().times()))
        other[0]._write()

    other = []
    with pytest.raises(ValueError, match="in use by"), Lease(path, Clock(start_the_other).times()):
        pass
    other[0].renew()
    other[0].check()


def test_a_lease_that_was_taken_over_is_lost_and_the_new_owner_keeps_its_file(path):
    clock = Clock()
    with Lease(path, clock.times()) as lease:
        other = Lease(path, Clock().times())
        other._write()
        content = path.read_text()
        lease.check()  # it asks nothing of the file system before a renewal is overdue
        lease.renew()
        for _ in range(2):
            with pytest.raises(OwnershipLost, match=r"process \d+ on .* has taken over"):
                lease.check()
        lease.renew()
    assert path.read_text() == content


def test_a_process_that_was_held_up_asks_before_it_writes_again(path):
    clock = Clock()
    with Lease(path, clock.times()) as lease:
        clock.now += 100
        lease.check()
        before = path.read_text()
        clock.now += 100
        Lease(path, Clock().times())._write()
        assert path.read_text() != before
        with pytest.raises(OwnershipLost, match="has taken over"):
            lease.check()


def test_failed_renewals_are_tolerated_until_the_lease_is_over(path, monkeypatch):
    def fail(_):
        raise OSError("503 try again")

    clock = Clock()
    with Lease(path, clock.times()) as lease:
        with monkeypatch.context() as patch:
            patch.setattr(Lease, "_write", fail)
            for _ in range(3):
                clock.now += 19
                lease.renew()
                lease.check()
        lease.renew()
        clock.now += 59
        lease.check()
        monkeypatch.setattr(Lease, "_write", fail)
        clock.now += 2
        with pytest.raises(OwnershipLost, match=r"could not be renewed for 60 s.*503 try again"):
            lease.check()


def test_an_owner_file_that_was_deleted_is_written_again(path):
    with Lease(path, Clock().times()) as lease:
        path.unlink()
        lease.renew()
        lease.check()
        assert path.exists()


def test_a_damaged_owner_file_of_another_process_counts_as_its_lease(path, capsys):
    path.write_text("{")
    clock = Clock()
    with Lease(path, clock.times()):
        assert sum(clock.slept) > 60
    assert "another process" in capsys.readouterr().out


def test_the_thread_renews_by_itself(path, monkeypatch):
    renewed, write = threading.Semaphore(0), Lease._write

    def noted(self):
        write(self)
        renewed.release()

    monkeypatch.setattr(Lease, "_write", noted)
    with Lease(path, Clock().times(renewal=0.01)) as lease:
        contents = set()
        for _ in range(3):
            assert renewed.acquire(timeout=60)
            contents.add(path.read_text())
        assert len(contents) > 1
        lease.check()
    assert not lease._thread.is_alive()
    assert not path.exists()
