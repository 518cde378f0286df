"""The files that a run adds to while it goes, read whole or followed."""

from __future__ import annotations

import json

from burnish.training.journal import Follower, append_line, read_lines


def test_what_is_appended_is_read_again_and_a_missing_file_is_empty(tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    assert read_lines(path) == []
    append_line(path, {"step": 1, "origin": "数据.csv:3"})
    append_line(path, {"step": 2})
    assert read_lines(path) == [{"step": 1, "origin": "数据.csv:3"}, {"step": 2}]
    assert path.read_text(encoding="utf-8").startswith('{"step": 1, "origin": "数据.csv:3"}\n')


def test_half_a_character_in_an_answer_is_written_as_its_escape(tmp_path):
    append_line(tmp_path / "a.jsonl", {"answer": "\ud83d"})
    assert (tmp_path / "a.jsonl").read_bytes() == b'{"answer": "\\ud83d"}\n'
    assert read_lines(tmp_path / "a.jsonl") == [{"answer": "\ud83d"}]


def test_a_line_that_a_crash_left_unfinished_is_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n[2]\n{"step": 2, "tra')
    assert read_lines(path) == [{"step": 1}]


def test_a_follower_waits_for_the_file_and_for_the_end_of_a_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    follower = Follower(path)
    assert (follower.look(), follower.age()) == ([], None)
    with path.open("w") as file:
        for text, seen in [('{"step"', []), (": 1}", []), ('\n{"step": 2', [1]), ("}\n", [1, 2])]:
            file.write(text)
            file.flush()
            assert [line["step"] for line in follower.look()] == seen
    assert 0 <= follower.age() < 60


def test_a_follower_reads_a_file_anew_that_was_rewound(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": s}) + "\n" for s in (1, 2, 3)))
    follower = Follower(path)
    assert len(follower.look()) == 3
    beside = tmp_path / "beside"
    beside.write_text('{"step": 1}\n{"step": 2, "again": true, "and": "longer than before"}\n')
    beside.replace(path)
    assert follower.look()[1] == {"step": 2, "again": True, "and": "longer than before"}
    path.write_text('{"step": 9}\n')
    assert follower.look() == [{"step": 9}]
    path.unlink()
    assert follower.look() == []
