"""Pairs of rows that repeat one another."""

from __future__ import annotations

import json

import pytest

from burnish.auditing.repeats import Pair, Repeats, find_repeats, origins_of
from burnish.cleaning.clean import clean_into
from burnish.cleaning.parts import Parts
from burnish.recipe import CleanSection, DataSection, Source

LONG = "多休息，多喝水，少看手机，少熬夜，饮食清淡，适当活动，心情放松，三天不好再来看医生。"


def repeats_in(folder, answers, **settings):
    data = folder / "a.jsonl"
    rows = ({"instruction": "头痛怎么办？", "output": answer} for answer in answers)
    data.write_text("\n".join(json.dumps(row) for row in rows))
    section = CleanSection(**settings)
    parts = Parts(folder / "parts")
    clean_into(folder, parts, DataSection(sources=[Source(path=str(data))]), section)
    return find_repeats(folder / "ledger.jsonl")


def test_of_equal_rows_each_names_the_first(tmp_path):
    found = repeats_in(tmp_path, ["甲。", "乙，乙。", "甲。", " 甲。"])
    assert found["exact"] == Repeats(
        2, (Pair("a.jsonl:3", "a.jsonl:1", 1.0), Pair("a.jsonl:4", "a.jsonl:1", 1.0))
    )
    assert found["near"] == Repeats(0, ())


def test_equal_rows_that_a_rule_rejects_count_too(tmp_path):
    assert repeats_in(tmp_path, ["先喝水，", "甲。", "先喝水，"])["exact"].count == 1


def test_only_the_first_five_pairs_are_named(tmp_path):
    exact = repeats_in(tmp_path, ["甲。"] * 9)["exact"]
    assert exact.count == 8
    assert [pair.origin for pair in exact.pairs] == [f"a.jsonl:{line}" for line in range(2, 7)]


@pytest.mark.parametrize("drop", [True, False])
def test_near_duplicates_are_found_whether_cleaning_drops_them_or_not(tmp_path, drop):
    answers = [LONG, "甲。", LONG.replace("多喝", "多饮"), LONG]
    found = repeats_in(tmp_path, answers, drop_near_duplicates=drop)
    assert found["near"].count == 1
    (pair,) = found["near"].pairs
    assert (pair.origin, pair.repeats) == ("a.jsonl:3", "a.jsonl:1")
    assert 0.6 <= pair.similarity < 1
    assert origins_of(found) == {"a.jsonl:1", "a.jsonl:3", "a.jsonl:4"}
