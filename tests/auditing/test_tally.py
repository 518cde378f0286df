"""Counts and first examples, row by row."""

from __future__ import annotations

import json

from burnish.auditing.report import Change
from burnish.auditing.tally import (
    Kinds,
    Settings,
    Tally,
    add_benchmark_items,
    add_row,
    num_characters,
    place_of,
    raw_conversation,
)
from burnish.cleaning.row import Chunk, RowSettings, clean_chunk, from_line
from burnish.conversation import Conversation, Message, Record
from burnish.recipe import CleanSection, PrivacySettings, Source


def settings(section=None, names=("a.csv",), wanted=()):
    return Settings.of(section or CleanSection(), names, wanted)


def results(rows, section):
    records = tuple(
        Record({"instruction": q, "output": a}, f"a.csv:{line}")
        for line, (q, a) in enumerate(rows, start=2)
    )
    row_settings = RowSettings((Source(path="a.csv"),), section, None, None)
    cleaned = clean_chunk(Chunk(0, 0, "alpaca", records), row_settings)
    return [from_line(line) for line in cleaned.lines]


def tallied(rows, section=None, **options):
    section = section or CleanSection()
    tally = Tally()
    for result in results(rows, section):
        add_row(tally, result, settings(section, **options), kept=not result.broken)
    return tally


def test_all_rows_of_a_kind_are_counted_and_five_are_shown():
    tally = tallied([("好不好？", f"第{i}次说好。。。。") for i in range(8)])
    assert tally.faults.counts == {"mark_runs": 8}
    assert list(tally.faults.first["mark_runs"]) == [f"a.csv:{line}" for line in range(2, 7)]
    assert tally.repairs.counts == {"squeeze_marks": 8}
    assert len(tally.repairs.first["squeeze_marks"]) == 5


def test_a_kind_says_whether_an_example_is_wanted():
    kinds = Kinds()
    wanted = []
    for row in range(7):
        wanted.append(kinds.count("a"))
        if wanted[-1]:
            kinds.first["a"][str(row)] = row
    assert wanted == [True] * 5 + [False] * 2
    assert kinds.counts["a"] == 7


def test_a_fault_is_shown_as_it_came_though_a_repair_mends_it():
    tally = tallied([("头痛怎么办？", "<p>多休息</p>，吃药要按时，每天２次。")])
    assert tally.faults.first["html_tags"]["a.csv:2"].startswith("<p>多休息</p>，")
    assert "每天２次" in tally.faults.first["fullwidth_alphanumerics"]["a.csv:2"]
    change = tally.repairs.first["halfwidth_alphanumerics"]["a.csv:2"]
    assert (change.before[-4:], change.after[-4:]) == ("天２次。", "天2次。")


def test_the_raw_conversation_is_put_together_from_the_changes():
    rows = [("<b>头痛</b>怎么办？", "多休息。。。。")]
    (result,) = results(rows, CleanSection())
    cleaned = Conversation.from_json(result.conversation)
    assert [m.content for m in cleaned.messages] == ["头痛怎么办？", "多休息。"]
    raw = raw_conversation(cleaned, result)
    assert [m.content for m in raw.messages] == ["<b>头痛</b>怎么办？", "多休息。。。。"]


def test_a_fault_within_personal_data_does_not_show_it():
    conversation = Conversation(
        (Message("user", "怎么联系？"), Message("assistant", "电话１３８１２３４５６７８。")),
        "a.csv:2",
    )
    shown = place_of("fullwidth_alphanumerics", conversation, settings())
    assert shown == "电话[手机号]。"
    off = settings(CleanSection(privacy=PrivacySettings(action="off")))
    assert "１３８" in place_of("fullwidth_alphanumerics", conversation, off)


def test_settings_that_are_off_are_tried_each_alone():
    section = CleanSection(squeeze_marks=False, drop_echo=False, drop_truncated=False)
    rows = [
        ("头痛怎么办？", "多休息。。。"),
        ("头痛怎么办？", "头痛怎么办？"),
        ("你好,大夫", "你好，"),
    ]
    tally = tallied(rows, section)
    assert tally.switched_off.counts == {
        "squeeze_marks": 1,
        "drop_echo": 1,
        "fullwidth_punctuation": 1,
        "drop_truncated": 1,
    }
    assert tally.rules.counts == {}
    assert tally.switched_off.first["squeeze_marks"]["a.csv:2"] == Change(
        before="多休息。。。", after="多休息。"
    )


def test_markup_is_not_tried_on_questions_about_markup():
    section = CleanSection(strip_html=False)
    rows = [("HTML 怎么写粗体？", "<b>粗</b>"), ("怎么写？", "<b>粗</b>")]
    assert tallied(rows, section).switched_off.counts == {"strip_html": 1}


def test_only_wanted_rows_keep_their_text_and_only_kept_rows_their_lengths():
    rows = [("为什么？", "因为。"), ("为什么？", "无"), ("怎么办？", "好。")]
    tally = tallied(rows, wanted={"a.csv:4"})
    assert tally.texts == {"a.csv:4": "user: 怎么办？⏎assistant: 好。"}
    assert (list(tally.questions), list(tally.answers)) == ([4, 4], [3, 2])
    assert tally.languages == {"zh": 3}


def test_a_row_belongs_to_the_source_with_the_longest_name_that_fits():
    tally = tallied([("为什么？", "因为。")], names=("a", "a.csv", "b.csv"))
    assert tally.per_source == {"a.csv": 1}


def test_characters_of_all_that_is_asked_and_answered():
    turns = (
        Message("system", "ab"),
        Message("user", "abc", "d"),
        Message("assistant", "abcde"),
        Message("user", "f"),
        Message("assistant", "gh"),
    )
    assert num_characters(Conversation(turns, "a:1")) == (7, 7)
    assert num_characters(Conversation((Message("text", "abc"),), "a:1")) == (0, 3)


def test_benchmark_items_are_counted_by_benchmark(tmp_path):
    path = tmp_path / "contamination.jsonl"
    leak = {"benchmark": "mmlu", "item": "anatomy 3", "kind": "whole", "gram": "the heart"}
    lines = [json.dumps({**leak, "origin": f"a.csv:{line}"}) for line in (2, 5)]
    path.write_text("\n".join(lines))
    tally = Tally()
    add_benchmark_items(tally, path)
    assert tally.benchmark_items.counts == {"mmlu": 2}
    assert tally.benchmark_items.first["mmlu"]["a.csv:5"] == "anatomy 3 (whole): the heart"
