"""The host memory that is available: to the system, and under the limits of the control groups of this process."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

_PROCESS = Path("/proc/self")
_ESCAPE = re.compile(r"\\([0-7]{3})")  # how the kernel writes a space or a backslash in a mount point


class _Version(NamedTuple):
    """The files of one version of control groups: limits, use, and the reclaimable counters of `memory.stat`."""

    limits: tuple[str, ...]
    use: str
    reclaimable: tuple[str, ...]


# By type of file system. A group whose use exceeds `memory.high` is slowed down until memory is reclaimed.
_VERSIONS = {
    "cgroup2": _Version(
        ("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file", "slab_reclaimable")
    ),
    "cgroup": _Version(
        ("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")
    ),
}


def available_bytes(process: Path = _PROCESS) -> float:
    """Returns the bytes of host memory that this process can allocate.

    This is the system's available memory or what the process's control groups leave, whichever is less. A limit holds
    for all groups within a group, so every group from the process's own up to the topmost one counts.

    Page cache and reclaimable slab do not count as used, because the kernel frees them when memory runs short. For the
    system, `MemAvailable` counts them as available, and this function does the same for a control group. A data set
    that is read once an epoch is active page cache. The kubelet's working set counts that as used, so a run could be
    refused on a host on which it had run before.

    Source: `si_mem_available` in the Linux kernel's mm/show_mem.c; Documentation/admin-guide/cgroup-v2.rst;
    kubernetes/kubernetes#43916 about active page cache in the working set.

    Args:
      process: the folder of this process in /proc.
    """
    left = (_left(group, version) for group, version in _groups(process))
    return min([float(psutil.virtual_memory().available), *(number for number in left if number is not None)])


def _left(group: Path, version: _Version) -> float | None:
    """Returns the bytes that a group's limits leave, or None if it has no limit or does not control memory."""
    limits = [limit for name in version.limits if (limit := _number(group / name)) is not None]
    used = _number(group / version.use)
    if not limits or used is None:
        return None
    counters = dict(line.split() for line in _text(group / "memory.stat").splitlines() if line.count(" ") == 1)
    return max(0.0, min(limits) - max(0.0, used - sum(float(counters.get(name, 0)) for name in version.reclaimable)))


def _groups(process: Path) -> Iterator[tuple[Path, _Version]]:
    """Yields the folders of the groups that may limit the memory of the process, from its own to the topmost one."""
    mounts = list(_mounts(process))
    for line in _text(process / "cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        kind = "cgroup2" if number == "0" else "cgroup"
        if kind == "cgroup" and "memory" not in controllers.split(","):
            continue
        for mounted_kind, root, folder, options in mounts:
            if mounted_kind == kind and (kind == "cgroup2" or "memory" in options):
                for within in _upwards(PurePosixPath(path), root):
                    yield folder / within, _VERSIONS[kind]


def _upwards(path: PurePosixPath, root: PurePosixPath) -> Iterator[PurePosixPath]:
    """Yields the path of a group and its parents relative to the group that is mounted, which comes last.

    A container may see only its own group mounted while the path is the host's, or a path with `..` if it has moved
    out of its namespace. Then only the mounted group is known.
    """
    within = path.relative_to(root) if path.is_relative_to(root) and ".." not in path.parts else PurePosixPath()
    yield from (within, *within.parents) if within.parts else (within,)


def _mounts(process: Path) -> Iterator[tuple[str, PurePosixPath, Path, list[str]]]:
    """Yields each mounted hierarchy of control groups: its type, the group that is its root, its folder, its options.

    Source: proc_pid_mountinfo(5).
    """
    for line in _text(process / "mountinfo").splitlines():
        mount, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        if kind in _VERSIONS:
            root, folder = (_ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), word) for word in mount.split(" ")[3:5])
            yield kind, PurePosixPath(root), Path(folder), options.split(",")


def _number(path: Path) -> float | None:
    """Returns the number in a file, or None if there is none or it is "max"."""
    text = _text(path).strip()
    return float(text) if text.isdigit() else None


def _text(path: Path) -> str:
    """Returns the text of a file, or "" if it cannot be read: not every system has every file."""
    try:
        return path.read_text()
    except OSError:
        return ""
