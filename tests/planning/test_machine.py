from pathlib import Path

import pytest

from burnish.planning import machine


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
