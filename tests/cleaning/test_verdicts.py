"""What comparing rows with one another says."""

import random

import numpy as np
import pytest

from burnish.cleaning.parts import Parts
from burnish.cleaning.row import Chunk, RowSettings, clean_chunk
from burnish.cleaning.verdicts import GroupNames, compare, find_leaks, is_dropped
from burnish.contamination.index import Item, build_index
from burnish.contamination.overlaps import Overlap
from burnish.conversation import Record
from burnish.recipe import CleanSection, ContaminationSettings, Source

LONG = "多休息，多喝水，少看手机，少熬夜，饮食清淡，适当活动，心情放松，三天不好再来看医生"


def cleaned_parts(folder, rows, section, benchmarks=None):
    """Rows of question and answer after cleaning, as the one chunk on disk, and their table."""
    settings = RowSettings((Source(path="x.csv"),), section, None, benchmarks)
    records = [
        Record({"instruction": q, "output": a}, f"x.csv:{n}") for n, (q, a) in enumerate(rows, 2)
    ]
    parts = Parts(folder / "parts")
    parts.write(clean_chunk(Chunk(0, 0, "alpaca", tuple(records)), settings))
    return parts, parts.table(1)


def compared(folder, *rows, benchmarks=None, **switches):
    section = CleanSection(**switches)
    parts, table = cleaned_parts(folder, rows, section, benchmarks)
    return compare(table, parts, section, find_leaks(parts)), parts


def test_a_copy_names_the_first_row_whether_or_not_a_rule_rejects_both(tmp_path):
    found, _ = compared(tmp_path, ("q", "a"), ("r", "cut,"), ("q", "a"), ("r", "cut,"), ("q", "b"))
    assert found.copy_of.tolist() == [-1, -1, 0, 1, -1]
    assert found.equal_to.tolist() == [-1, -1, 0, -1, -1]  # rejected rows are not compared


def test_a_near_copy_names_the_better_row_and_so_does_its_own_copy(tmp_path):
    rows = [("头痛怎么办？", LONG), ("头痛怎么办？", f"{LONG}，谢谢。"), ("头痛怎么办？", LONG)]
    found, _ = compared(tmp_path, *rows)
    assert found.near_to.tolist() == [1, -1, 1]
    assert found.equal_to.tolist() == [-1, -1, 0]
    assert found.similarity[0] == found.similarity[2] == pytest.approx(0.95, abs=0.04)
    assert found.groups == [(0,), (0,), (0,)]


def test_rows_far_apart_found_groups_of_their_own_and_equal_questions_share_one(tmp_path):
    found, _ = compared(tmp_path, ("甲？", "东"), ("乙？", "西"), ("甲 ？", "南南南"))
    assert found.groups == [(0,), (1,), (0,)]
    assert (found.near_to == -1).all()


def test_nearly_the_same_question_with_another_answer_is_kept_but_shares_a_group(tmp_path):
    question = (
        "六岁男孩最近出现心动过速和心脏扩大的症状，体温也稍高，平时容易感冒，最可能的诊断是什么"
    )
    found, _ = compared(
        tmp_path,
        (f"{question}？", "心肌炎"),
        (f"{question}呢？", "风湿热"),
        ("牙痛怎么办？", "刷牙"),
    )
    assert (found.near_to == -1).all()
    assert found.groups == [(0,), (0,), (2,)]


def test_a_copy_with_typos_among_rows_of_one_template_is_found_by_its_question(tmp_path):
    draw = random.Random(0)
    letters = draw.sample([chr(c) for c in range(0x4E00, 0x5E00)], 90)
    subjects = ["".join(letters[at : at + 3]) for at in range(0, 90, 3)]
    body = "这种病比较少见，患者应当尽早去医院检查，按医生的要求用药，平时注意休息和饮食，定期复查"
    rows = [(f"{s}应该怎么治疗呢？", f"{s}的治疗：{body}。") for s in subjects]
    copy = (rows[3][0], rows[3][1].replace("比较", "笔较").replace("检查", "检杳"))
    found, _ = compared(tmp_path, *rows, copy)
    assert found.near_to[len(rows)] == 3 or found.near_to[3] == len(rows)


def test_terms_that_many_rows_share_are_no_leaks(tmp_path):
    words = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi"
    index = build_index([Item("made_up", "made_up:1", f"{words} rho sigma?")], 13)
    half = " ".join(words.split()[:9])
    rows = [("q", f"{number} {half} {number}") for number in range(4)]
    assert find_leaks(compared(tmp_path / "many", *rows, benchmarks=index)[1]) == {}
    leaks = find_leaks(compared(tmp_path / "few", *rows[:3], benchmarks=index)[1])
    assert {row: (leak.item, leak.kind) for row, leak in leaks.items()} == {
        0: ("made_up:1", "half"),
        1: ("made_up:1", "half"),
        2: ("made_up:1", "half"),
    }


@pytest.mark.parametrize(
    ("drop", "dropped"),
    [("none", []), ("sure", ["whole", "run"]), ("all", ["whole", "run", "half"])],
)
def test_what_is_sure_is_dropped_before_what_is_not(drop, dropped):
    section = CleanSection(contamination=ContaminationSettings(drop=drop))
    kinds = ["whole", "run", "half"]
    assert [
        kind for kind in kinds if is_dropped(Overlap("b", "b:1", kind, "words", 9, 0.5), section)
    ] == dropped


def test_groups_of_a_stratum_are_numbered_by_their_founders_kept_or_not():
    keys = np.arange(4 * 16, dtype=np.uint8).reshape(4, 16)
    names = GroupNames(keys)
    in_stratum = '{"messages": [], "origin": "a:1", "stratum": "x/y"}'
    hashes = [keys[row, :8].tobytes().hex() for row in range(4)]
    assert names.of(0, [0], in_stratum) == [f"{hashes[0]}/0/x/y"]
    assert names.of(1, [1], in_stratum) == [f"{hashes[1]}/1/x/y"]
    assert names.of(2, [0, 1], in_stratum) == [f"{hashes[0]}/0/x/y", f"{hashes[1]}/1/x/y"]
    assert names.of(3, [3], '{"messages": [], "origin": "a:1"}') == [hashes[3]]


def test_arrays_have_an_entry_for_every_row(tmp_path):
    found, _ = compared(tmp_path, ("q", "a"), ("q", ""), ("q", "a"))
    assert len(found.groups) == 3
    assert found.groups[1] == ()
    assert all(
        isinstance(values, np.ndarray) and len(values) == 3
        for values in (found.copy_of, found.equal_to, found.near_to, found.similarity)
    )
