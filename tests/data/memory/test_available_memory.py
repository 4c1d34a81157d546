"""The available host memory, read from folders that look like those of the kernel."""

import types

import psutil
import pytest

from effnetv2_jax.data.memory.available_memory import available_bytes

SYSTEM = 1e12


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Writes the groups of one process, `{"path/of/a/group/file": text}`, and returns what is available to it."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=SYSTEM))

    def available(membership: str, groups: dict[str, object], *, kind: str = "cgroup2", root: str = "/") -> float:
        for name, content in groups.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        options = "rw,memory" if kind == "cgroup" else "rw"
        (tmp_path / "cgroup").write_text(f"{membership}\n")
        (tmp_path / "mountinfo").write_text(
            "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
            f"35 31 0:32 {root} {tmp_path}/groups rw,relatime shared:9 - {kind} {kind} {options}\n"
        )
        return available_bytes(tmp_path)

    return available


def stat(**counters):
    return "\n".join(f"{name} {value}" for name, value in counters.items())


def test_the_real_system_is_plausible():
    assert 1e8 < available_bytes() < 1e14


def test_without_control_groups_the_systems_memory_counts(tmp_path, system):
    assert system("0::/", {}) == SYSTEM
    assert available_bytes(tmp_path / "nowhere") == SYSTEM


def test_page_cache_and_reclaimable_slab_do_not_count_as_used(system):
    counters = stat(anon=300, file=700, inactive_file=200, active_file=400, slab_reclaimable=50, slab_unreclaimable=9)
    files = {"memory.max": 2000, "memory.high": "max", "memory.current": 1100, "memory.stat": counters}
    assert system("0::/", files) == 2000 - (1100 - 200 - 400 - 50)


def test_shared_memory_counts_as_used(system):
    counters = stat(file=900, shmem=900, inactive_file=0, active_file=0)
    assert system("0::/", {"memory.max": 2000, "memory.current": 1000, "memory.stat": counters}) == 1000


def test_memory_high_is_a_limit(system):
    assert system("0::/", {"memory.max": 2000, "memory.high": 1500, "memory.current": 1000}) == 500
    assert system("0::/", {"memory.max": "max", "memory.high": 1500, "memory.current": 1000}) == 500


def test_a_group_beyond_its_limit_leaves_nothing(system):
    assert system("0::/", {"memory.high": 900, "memory.current": 1000}) == 0


@pytest.mark.parametrize("tightest", ["", "pod/", "pod/job/"])
def test_the_tightest_group_from_the_processs_own_to_the_topmost_wins(system, tightest):
    files = {f"{group}memory.max": 9000 for group in ("", "pod/", "pod/job/")} | {f"{tightest}memory.max": 3000}
    files |= {f"{group}memory.current": 1000 for group in ("", "pod/", "pod/job/")}
    assert system("0::/pod/job", files | {"pod/other/memory.max": 1, "pod/other/memory.current": 0}) == 2000


def test_the_use_of_a_sibling_counts_against_the_limit_of_their_parent(system):
    files = {"pod/memory.max": 5000, "pod/memory.current": 4000, "pod/job/memory.current": 10}
    assert system("0::/pod/job", files | {"pod/job/memory.max": 4500}) == 1000


V1 = {"memory.limit_in_bytes": 3000, "memory.usage_in_bytes": 1500}


def test_version_1_counts_the_cache_of_the_groups_within(system):
    counters = stat(inactive_file=1, active_file=1, total_inactive_file=300, total_active_file=200)
    assert system("4:memory:/", V1 | {"memory.stat": counters}, kind="cgroup") == 3000 - 1000


def test_version_1_without_a_limit_leaves_the_systems_memory(system):
    unlimited = V1 | {"memory.limit_in_bytes": 9223372036854771712}
    assert system("4:memory:/", unlimited, kind="cgroup") == SYSTEM


def test_version_1_finds_the_memory_controller_among_others(system):
    assert (
        system("9:name=systemd:/a\n4:cpu,memory:/job\n0::/b", {f"job/{n}": v for n, v in V1.items()}, kind="cgroup")
        == 1500
    )


def test_a_container_that_sees_only_its_own_group_reads_that(system):
    files = {"memory.max": 3000, "memory.current": 1000, "inner/memory.max": 2500, "inner/memory.current": 1000}
    assert system("0::/docker/abc", files, root="/docker/abc") == 2000
    assert system("0::/docker/abc/inner", files, root="/docker/abc") == 1500
    assert system("0::/unknown/path", files, root="/docker/abc") == 2000


def test_a_path_outside_the_namespace_reads_the_mounted_group(system):
    assert system("0::/../../other", {"memory.max": 3000, "memory.current": 1000}) == 2000
