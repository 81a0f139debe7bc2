"""How many CPUs a process may use, from files written as the kernel writes them, and on this machine."""

import os
from pathlib import Path

import pytest

from impl import FlushPool
from impl.machine import cgroups
from impl.machine.cpus import usable_cpus

CPUS = 64
V2 = "29 23 0:26 {root} {mount} rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 25 0:29 {root} {mount} rw,nosuid shared:9 - cgroup cgroup rw,{controllers}"
OTHERS = "22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw\n"


@pytest.fixture(autouse=True)
def many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(CPUS)))


class Machine:
    """A /proc/self and the mounts of cgroups that it speaks of."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.proc.mkdir()
        self.v2, self.v1 = folder / "sys" / "cgroup", folder / "sys" / "with blank"
        (self.proc / "mountinfo").write_text(OTHERS)

    def member(self, *lines: str) -> "Machine":
        (self.proc / "cgroup").write_text("".join(f"{line}\n" for line in lines))
        return self

    def mounts(
        self, v1_root: str = "/", v2_root: str = "/", controllers: str = "cpu,cpuacct"
    ) -> "Machine":
        v1 = str(self.v1).replace(" ", "\\040")
        with (self.proc / "mountinfo").open("a") as file:
            print(
                V1.format(root="/", mount="/sys/fs/cgroup/memory", controllers="memory"), file=file
            )
            print(V1.format(root=v1_root, mount=v1, controllers=controllers), file=file)
            print(V2.format(root=v2_root, mount=self.v2), file=file)
        return self

    def max(self, cgroup: str, text: str) -> "Machine":
        (self.v2 / cgroup).mkdir(parents=True, exist_ok=True)
        (self.v2 / cgroup / "cpu.max").write_text(f"{text}\n")
        return self

    def cfs(self, cgroup: str, quota: int, period: int = 100_000) -> "Machine":
        (self.v1 / cgroup).mkdir(parents=True, exist_ok=True)
        (self.v1 / cgroup / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (self.v1 / cgroup / "cpu.cfs_period_us").write_text(f"{period}\n")
        return self

    @property
    def cpus(self) -> int:
        return usable_cpus()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(cgroups, "PROC_SELF", machine.proc)
    return machine


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("200000 100000", 2),
        ("max 100000", CPUS),
        ("150000 100000", 2),
        ("100001 100000", 2),
        ("1000 100000", 1),
        ("50000 10000", 5),
        ("6500000 100000", CPUS),
        ("12345678901234567890 1000", CPUS),
        ("", CPUS),
        ("two 100000", CPUS),
        ("200000", CPUS),
        ("200000 0", CPUS),
    ],
)
def test_version_2(text: str, count: int, machine: Machine) -> None:
    machine.member("0::/pod/container").mounts().max("pod/container", text)
    assert machine.cpus == count


@pytest.mark.parametrize(("quota", "count"), [(300_000, 3), (250_000, 3), (1000, 1), (-1, CPUS)])
def test_version_1(quota: int, count: int, machine: Machine) -> None:
    machine.member("5:cpu,cpuacct:/box", "4:memory:/other").mounts().cfs("box", quota)
    assert machine.cpus == count


def test_the_tightest_of_nested_groups_counts(machine: Machine) -> None:
    machine.member("0::/slice/pod/box").mounts()
    machine.max("slice/pod/box", "800000 100000").max("slice/pod", "max 100000")
    assert machine.max("slice", "300000 100000").cpus == 3
    assert machine.max("slice/pod/box", "200000 100000").cpus == 2
    assert machine.max("slice/elsewhere", "100000 100000").cpus == 2


def test_the_top_of_the_mount_counts_and_nothing_above_it(machine: Machine) -> None:
    """Inside a container its own cgroup is the top, by namespace or by the root of the mount."""
    machine.max("", "400000 100000")
    (machine.v2.parent / "cpu.max").write_text("100000 100000\n")
    assert machine.member("0::/").mounts().cpus == 4


def test_a_mount_of_a_part_of_the_hierarchy(machine: Machine) -> None:
    """Version 1 in a container without a namespace: paths are the host's, the mount is the group's."""
    machine.member("3:cpu,cpuacct:/docker/1f/child").mounts(v1_root="/docker/1f")
    machine.cfs("", 500_000).cfs("child", -1)
    assert machine.cpus == 5


@pytest.mark.parametrize("path", ["/docker/2e", "/docker/1f0", "/../1f"])
def test_a_group_that_is_not_to_be_seen_sets_no_limit(path: str, machine: Machine) -> None:
    machine.member(f"3:cpu,cpuacct:{path}").mounts(v1_root="/docker/1f").cfs("", 100_000)
    assert machine.cpus == CPUS


def test_both_versions_at_once(machine: Machine) -> None:
    machine.member("3:cpu,cpuacct:/box", "1:name=systemd:/x", "0::/box").mounts()
    assert machine.cfs("box", 700_000).cpus == 7
    assert machine.max("box", "600000 100000").cpus == 6


def test_another_controller_does_not_count(machine: Machine) -> None:
    machine.member("3:cpuset:/box").mounts(controllers="cpuset").cfs("box", 100_000)
    assert machine.cpus == CPUS


def test_no_cgroups_and_odd_lines(machine: Machine) -> None:
    assert machine.cpus == CPUS
    machine.member("", "odd", "0:", "x:y:z").mounts().max("", "100000 100000")
    with (machine.proc / "mountinfo").open("ab") as file:
        file.write(b"1 2 3:4 / /mnt/\xff\xe2\x80\xa8 rw - cgroup2 none rw\nodd\n\n")
    assert machine.cpus == CPUS


def test_fewer_cpus_than_the_quota(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {3, 9})
    machine.member("0::/box").mounts().max("box", "400000 100000")
    assert machine.cpus == 2


def test_a_pool_has_as_many_threads_as_that(machine: Machine) -> None:
    machine.member("0::/box").mounts().max("box", "250000 100000")
    with FlushPool() as pool:
        assert pool.threads == 3
