import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.errors import DataError
from burnish.reading.folders import find_files, folder_of, is_pattern, is_run_folder, printable


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def found(path):
    return [below for _, below in find_files(path).files]


def test_a_folder_is_searched_to_its_depth_without_what_is_hidden(tmp_path):
    write(tmp_path, "b.csv", "a/c.csv", "a/b/d.csv", ".git/e.csv", "a/.f.csv", "a/~$g.docx")
    assert found(tmp_path) == ["a/b/d.csv", "a/c.csv", "b.csv"]
    assert find_files(tmp_path).files[2][0] == tmp_path / "b.csv"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["a.csv", "b.csv"]),
        ("[ab].csv", ["a.csv", "b.csv"]),
        ("?.csv", ["a.csv", "b.csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "in/a.csv", "in/on/a.csv"]),
        ("**", ["a.csv", "b.csv", "in/a.csv", "in/on/a.csv", "x.txt"]),
        ("*/a.csv", ["in/a.csv"]),
        ("**/**/a.csv", ["a.csv", "in/a.csv", "in/on/a.csv"]),
        ("**/on/*.csv", ["in/on/a.csv"]),
        ("*.md", []),
        ("nowhere/*.csv", []),
    ],
)
def test_a_pattern_names_the_files_that_fit_it(tmp_path, pattern, expected):
    write(tmp_path, "a.csv", "b.csv", "in/a.csv", "in/on/a.csv", "x.txt", ".h/a.csv")
    folder = folder_of(tmp_path / pattern)
    prefix = folder.relative_to(tmp_path).as_posix() + "/" if folder != tmp_path else ""
    assert [prefix + below for below in found(tmp_path / pattern)] == expected


def test_a_pattern_counts_from_the_working_directory(tmp_path, monkeypatch):
    write(tmp_path, "a.csv", "in/b.csv")
    monkeypatch.chdir(tmp_path)
    assert find_files(Path("**/*.csv")).files == (
        (Path("a.csv"), "a.csv"),
        (Path("in/b.csv"), "in/b.csv"),
    )


def test_a_name_with_a_wildcard_that_exists_is_no_pattern(tmp_path):
    write(tmp_path, "a[1].csv")
    assert not is_pattern(tmp_path / "a[1].csv")
    assert is_pattern(tmp_path / "a[2].csv")
    assert not is_pattern(tmp_path / "a.csv")


@pytest.mark.parametrize("pattern", [".", "**/*.csv"])
def test_links_that_lead_in_circles_are_followed_once(tmp_path, pattern):
    write(tmp_path, "data/a.csv", "data/in/b.csv")
    for name in ("one", "two", "three"):
        (tmp_path / "data" / "in" / name).symlink_to(tmp_path / "data", target_is_directory=True)
    assert found(tmp_path / "data" / pattern) == ["a.csv", "in/b.csv"]


def test_a_linked_folder_is_read_under_the_first_of_its_names(tmp_path):
    write(tmp_path, "elsewhere/a.csv", "data/b.csv")
    for name in ("m", "k"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "data" / "gone").symlink_to(tmp_path / "nowhere")
    assert found(tmp_path / "data") == ["b.csv", "k/a.csv"]


def test_run_folders_are_left_out_and_named(tmp_path):
    write(tmp_path, "a.csv", "runs/x/1-clean/b.jsonl")
    write(tmp_path, "runs/y/1-clean/.key", "runs/y/1-clean/parts/c.jsonl")
    (tmp_path / "runs/x/manifest.json").write_text('{"stages": {}}')
    for path in (tmp_path, tmp_path / "**/*", tmp_path / "*/*/*/*"):
        assert "runs/x/1-clean/b.jsonl" not in found(path)
        assert "runs/y/1-clean/parts/c.jsonl" not in found(path)
    assert found(tmp_path) == ["a.csv"]
    assert find_files(tmp_path).runs == (tmp_path / "runs/x", tmp_path / "runs/y")
    assert found(tmp_path / "runs/*/1-clean/*.jsonl") == ["x/1-clean/b.jsonl"]  # asked for by name


def test_of_a_run_folder_with_data_in_it_the_data_is_left(tmp_path):
    write(tmp_path, "data/a.csv", "1-clean/b.jsonl", "3-train/c.json")
    (tmp_path / "manifest.json").write_text('{"stages": {}}')
    assert found(tmp_path) == ["data/a.csv"]
    assert found(tmp_path / "**/*") == ["data/a.csv"]
    assert find_files(tmp_path).runs == (tmp_path,)


@pytest.mark.parametrize("manifest", ["[]", "{}", "{", "\udcff", '{"files": ["stages"]}'])
def test_a_manifest_of_another_program_makes_no_run_folder(tmp_path, manifest):
    write(tmp_path, "in/a.csv")
    (tmp_path / "in/manifest.json").write_text(manifest, errors="surrogateescape")
    assert not is_run_folder(tmp_path / "in")
    assert found(tmp_path) == ["in/a.csv", "in/manifest.json"]


def test_a_name_is_shown_on_one_line_and_otherwise_as_it_is():
    assert printable("a\nb\x1b[1m\udcff.csv") == r"a\nb\x1b[1m\udcff.csv"
    assert printable("问\u3000答 👩\u200d⚕️.csv") == "问\u3000答 👩\u200d⚕️.csv"


@pytest.mark.parametrize("pattern", [".", "*", "**", "**/*.csv"])
def test_what_is_neither_file_nor_folder_is_named(tmp_path, pattern):
    write(tmp_path, "a.csv", "in/b.csv")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    (tmp_path / "in" / "itself.csv").symlink_to("itself.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / ".hidden.csv").symlink_to("nowhere")
    deep = ("in/itself.csv",) if pattern != "*" else ()
    assert find_files(tmp_path / pattern).strange == ("gone.csv", *deep, "pipe.csv")


def test_a_link_that_leads_nowhere_is_named_though_the_pattern_spells_it_out(tmp_path):
    write(tmp_path, "a/x.csv", "b/y.csv")
    (tmp_path / "b" / "x.csv").symlink_to("nowhere")
    found_files = find_files(tmp_path / "*" / "x.csv")
    assert [below for _, below in found_files.files] == ["a/x.csv"]
    assert found_files.strange == ("b/x.csv",)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is closed to this user")
def test_a_folder_that_is_closed_is_an_error(tmp_path):
    (tmp_path / "in").mkdir(mode=0)
    with pytest.raises(DataError, match="this folder can't be read: Permission denied"):
        find_files(tmp_path)


_NAMES = st.sampled_from(["a", "b.csv", "c.txt", ".d"])


@settings(max_examples=50, deadline=None)
@given(
    st.sets(st.lists(_NAMES, min_size=1, max_size=3).map("/".join), max_size=8),
    st.lists(st.sampled_from(["*", "**", "?", "a", "*.csv", "[ab]*"]), min_size=1, max_size=3),
)
def test_a_pattern_names_what_python_finds_without_the_hidden_files(tmp_path_factory, files, parts):
    folder = tmp_path_factory.mktemp("files")
    for name in sorted(files):
        path = folder / name
        if not any(p.is_file() for p in path.parents) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(name))
    pattern = "/".join(parts)
    if not is_pattern(folder / pattern):
        return
    base = folder_of(folder / pattern)
    expected = {
        path
        for path in base.glob(str((folder / pattern).relative_to(base)))
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(base).parts)
    }
    if parts[-1] == "**":  # pathlib's ends at folders
        expected |= {
            path
            for path in base.glob(str((folder / pattern / "*").relative_to(base)))
            if path.is_file() and not any(p.startswith(".") for p in path.relative_to(base).parts)
        }
    assert {path for path, _ in find_files(folder / pattern).files} == expected
