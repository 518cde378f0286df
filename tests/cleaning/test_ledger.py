"""The ledger's files."""

import json

from burnish.cleaning.ledger import NAMES, text_of, write_ledger
from burnish.cleaning.row import RowResult
from burnish.cleaning.verdicts import compare
from burnish.conversation import Conversation, Message
from burnish.recipe import CleanSection
from tests.cleaning.test_verdicts import LONG, cleaned_parts


def written(folder, *rows, **switches):
    section = CleanSection(**switches)
    parts, table = cleaned_parts(folder, rows, section)
    counts = write_ledger(folder, parts, table, compare(table, parts, section, {}), section)
    lines = {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in NAMES
    }
    return counts, lines


NEAR = [
    ("头痛怎么办？", LONG),
    ("头痛怎么办？", f"{LONG}，谢谢。"),
    ("头痛怎么办？", LONG),
    ("牙痛？", "刷牙，"),
]


def test_every_row_has_a_line_with_its_fate_its_faults_and_the_row_it_repeats(tmp_path):
    counts, lines = written(tmp_path, *NEAR)
    assert [(r["origin"], r["kept"], r.get("rule")) for r in lines["ledger"]] == [
        ("x.csv:2", False, "near_duplicate"),
        ("x.csv:3", True, None),
        ("x.csv:4", False, "duplicate"),
        ("x.csv:5", False, "truncated"),
    ]
    assert [r["faults"] for r in lines["ledger"]] == [
        ["near_duplicate"],
        [],
        ["duplicate"],
        ["truncated"],
    ]
    assert [r.get("repeats") for r in lines["ledger"]] == ["x.csv:3", None, "x.csv:2", None]
    assert (counts.num_read, counts.num_kept) == (4, 1)
    assert counts.rejected == {"near_duplicate": 1, "duplicate": 1, "truncated": 1}


def test_a_copy_of_a_row_that_went_names_the_row_that_is_kept(tmp_path):
    _, lines = written(tmp_path, *NEAR)
    assert lines["rejected"][1]["reason"] == (
        "equal to x.csv:2, which is nearly equal to x.csv:3, which is kept."
    )
    _, lines = written(tmp_path, *NEAR, drop_near_duplicates=False)
    assert lines["rejected"][0]["reason"] == "equal to x.csv:2, which is kept."


def test_what_is_found_is_counted_though_nothing_is_dropped_for_it(tmp_path):
    counts, lines = written(tmp_path, *NEAR[:3], drop_near_duplicates=False, drop_duplicates=False)
    assert counts.num_kept == 3
    assert counts.faults == {"near_duplicate": 1, "duplicate": 1}
    assert len({tuple(line["groups"]) for line in lines["conversations"]}) == 1


def test_a_conversation_reads_back_from_its_line(tmp_path):
    _, lines = written(tmp_path, ('"引"\n{', "}\\"))
    (line,) = lines["conversations"]
    conversation = Conversation.from_dict(line)
    assert conversation.messages == (Message("user", '"引"\n{'), Message("assistant", "}\\"))
    assert conversation.groups == (line["groups"][0],)
    assert len(line["groups"][0]) == 16


def test_the_text_of_a_result_is_what_was_said():
    conversation = Conversation((Message("user", "q", "i"), Message("assistant", "a")), "x:1")
    result = RowResult("x:1", conversation.as_json())
    assert text_of(result) == "user: q\ninput: i\nassistant: a"
