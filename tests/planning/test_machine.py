from burnish.planning import machine


def test_what_is_available_is_no_more_than_there_is():
    assert 0 < machine.available_gib() <= machine.memory_gib()


def test_this_process_holds_megabytes_not_gigabytes_of_bytes_more():
    assert 10 * 2**20 < machine.resident_bytes() < machine.memory_gib() * 2**30


def test_the_limit_of_a_container_counts_and_its_pages_of_files_are_free(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("1073741824\n")  # 1 GiB
    (tmp_path / "memory.current").write_text("805306368\n")  # 0.75
    (tmp_path / "memory.stat").write_text("anon 268435456\nfile 536870912\n")  # 0.5 of files
    monkeypatch.setattr(machine, "_GROUP", tmp_path)
    assert machine.memory_gib() == 1.0
    assert machine.available_gib() == 0.75


def test_a_container_without_a_limit_has_what_the_machine_has(tmp_path, monkeypatch):
    whole = machine._number(tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text("max\n")
    assert whole is None
    assert machine._number(tmp_path / "memory.max") is None
