import os
from pathlib import Path

import psutil
import pytest

from burnish import machine


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A tree of control groups without limits; this process is in /jobs/mine."""
    process, root = tmp_path / "process", tmp_path / "groups"
    (root / "jobs" / "mine").mkdir(parents=True)
    process.mkdir()
    (process / "cgroup").write_text("1:name=other:/elsewhere\n0::/jobs/mine\n")
    monkeypatch.setattr(machine, "_GROUPS", root)
    monkeypatch.setattr(machine, "_PROCESS", process)
    return root


def limit(group: Path, of_mib: int, used_mib: int, files_mib: int) -> None:
    (group / "memory.max").write_text(f"{of_mib * 2**20}\n")
    (group / "memory.current").write_text(f"{used_mib * 2**20}\n")
    (group / "memory.stat").write_text(f"anon 1\nfile {files_mib * 2**20}\n")


def test_what_is_available_is_no_more_than_there_is():
    assert 0 < machine.available_gib() <= machine.memory_gib()


def test_this_process_holds_megabytes_not_gigabytes_of_bytes_more():
    assert 10 * 2**20 < machine.resident_bytes() < machine.memory_gib() * 2**30
    assert 0 < machine.mapped_gib() * 2**30 < machine.resident_bytes()


def test_the_limit_of_a_container_counts_and_its_pages_of_files_are_free(groups):
    limit(groups, 1024, 768, 512)
    assert machine.memory_gib() == 1.0
    assert machine.available_gib() == 0.75


@pytest.mark.parametrize("place", ["jobs", "jobs/mine"])
def test_so_do_limits_of_the_groups_that_this_process_lies_in(groups, place):
    limit(groups, 1024, 768, 512)
    limit(groups / place, 512, 384, 0)
    assert machine.memory_gib() == 0.5
    assert machine.available_gib() == 0.125


def test_a_group_outside_of_what_can_be_seen_leaves_the_root(groups):
    (machine._PROCESS / "cgroup").write_text("0::/../above\n")
    limit(groups, 1024, 768, 512)
    limit(groups / "jobs", 512, 384, 0)
    assert machine.memory_gib() == 1.0


def test_a_group_without_a_limit_has_what_the_machine_has(groups):
    whole = machine.memory_gib()
    (groups / "memory.max").write_text("max\n")
    assert machine.memory_gib() == whole


@pytest.fixture
def cores(groups, monkeypatch):
    """Sets this process's cores, how busy each of the machine is, and the load of a minute."""

    def set_them(own: set[int], busy: list[float], load: float) -> None:
        monkeypatch.setattr(machine, "_own_cores", lambda: own)
        monkeypatch.setattr(psutil, "cpu_percent", lambda _, percpu: busy)
        monkeypatch.setattr(psutil, "getloadavg", lambda: (load, 0.0, 0.0))
        machine.free_cores.cache_clear()

    yield set_them
    machine.free_cores.cache_clear()


def test_of_this_machine_at_least_one_core_is_free():
    machine.free_cores.cache_clear()
    assert 1 <= machine.free_cores() <= machine.usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("quota", "usable"),
    [("max 100000", 4), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("", 4)],
)
def test_cores_that_can_be_used_are_no_more_than_the_container_has_time_of(
    groups, cores, quota, usable
):
    cores({0, 1, 2, 3}, [0.0] * 4, 0.0)
    (groups / "jobs" / "cpu.max").write_text(f"{quota}\n")
    assert machine.usable_cores() == usable


@pytest.mark.parametrize(
    ("busy", "load", "free"),
    [
        ([0.0, 0.0, 0.0, 0.0], 0.0, 4),
        ([100.0, 0.0, 100.0, 0.0], 2.0, 2),
        ([40.0, 30.0, 0.0, 0.0], 0.7, 4),  # less than three quarters of a core
        ([40.0, 40.0, 0.0, 0.0], 0.8, 3),
        ([100.0, 100.0, 100.0, 100.0], 9.0, 1),  # never none
        ([100.0, 100.0, 0.0, 0.0], 0.1, 4),  # a burst
        ([0.0, 0.0, 0.0, 0.0], 4.0, 4),  # what this process did itself
    ],
)
def test_cores_are_free_that_nothing_else_computes_on_now_and_in_the_last_minute(
    cores, busy, load, free
):
    cores({0, 1, 2, 3}, busy, load)
    assert machine.free_cores() == free


def test_only_the_work_on_the_cores_of_this_process_counts(cores):
    cores({2, 3}, [100.0, 100.0, 0.0, 100.0], 3.0)
    assert machine.free_cores() == 1
    cores({4, 5, 6, 7}, [100.0, 100.0, 100.0, 100.0, 0.0, 0.0, 0.0, 0.0], 4.0)
    assert machine.free_cores() == 4


def test_a_small_share_of_a_large_machine_is_free_while_enough_of_that_is_idle(groups, cores):
    (groups / "cpu.max").write_text("400000 100000\n")
    cores(set(range(8)), [100.0] * 3 + [0.0] * 5, 3.0)
    assert machine.free_cores() == 4
    cores(set(range(8)), [100.0] * 6 + [0.0] * 2, 6.0)
    assert machine.free_cores() == 2


def test_a_process_keeps_to_the_number_that_it_saw_first(cores, monkeypatch):
    cores({0, 1}, [0.0, 0.0], 0.0)
    assert machine.free_cores() == 2
    monkeypatch.setattr(psutil, "cpu_percent", lambda _, percpu: [100.0, 100.0])
    monkeypatch.setattr(psutil, "getloadavg", lambda: (2.0, 2.0, 2.0))
    assert machine.free_cores() == 2
