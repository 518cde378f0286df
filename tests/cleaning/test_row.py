"""What cleaning does to one row."""

import json

import numpy as np
import pytest

from burnish.cleaning.row import (
    NO_KEY,
    Chunk,
    RowSettings,
    clean_chunk,
    from_line,
    hash_of,
    hidden,
)
from burnish.conversation import BadRow, Record
from burnish.recipe import CleanSection, Source


def cleaned(*rows, system_prompt=None, source=None, **switches):
    source = source or Source(path="x.csv")
    settings = RowSettings((source,), CleanSection(**switches), system_prompt, None)
    done = clean_chunk(Chunk(0, 0, "alpaca", rows), settings)
    return done, [from_line(line) for line in done.lines]


def record(question, answer, line=2, **more):
    return Record({"instruction": question, "output": answer, **more}, f"x.csv:{line}")


def test_a_row_says_all_that_is_wrong_with_it_though_the_first_rule_rejects_it():
    _, (result,) = cleaned(record("你好,世界", "你好,世界,"), drop_echo=True)
    assert [rule for rule, _ in result.broken] == ["truncated"]
    assert result.faults == ["halfwidth_punctuation"]
    _, (result,) = cleaned(record("再见，", "再见，"))
    assert [rule for rule, _ in result.broken] == ["truncated", "echo"]
    assert result.text == "user: 再见，\nassistant: 再见，"


def test_a_kept_row_has_no_text_of_its_own_and_its_changes_name_the_repairs():
    done, (result,) = cleaned(record("问", "<b>１</b>  2"))
    assert done.table.alive.tolist() == [True]
    assert (result.broken, result.text) == ([], "")
    assert json.loads(result.conversation)["messages"][1]["content"] == "1 2"
    assert result.changes == [
        {
            "origin": "x.csv:2",
            "field": "messages[1].content",
            "repairs": ["strip_html", "halfwidth_alphanumerics", "squeeze_spaces"],
            "before": "<b>１</b>  2",
            "after": "1 2",
        }
    ]


def test_rows_that_are_no_conversation_have_keys_of_zeros():
    rows = (record("q", "a"), BadRow("x.csv:3", "why", "text"), record("q", "", 4))
    done, results = cleaned(*rows)
    assert done.table.alive.tolist() == [True, False, False]
    assert done.table.keys.any(axis=1).tolist() == [True, False, False]
    assert done.table.questions[1:].tolist() == [NO_KEY, NO_KEY]
    assert [r.broken[0][0] for r in results[1:]] == ["unreadable", "no_answer"]
    assert results[1].text == "text"


def test_the_first_row_that_cant_be_read_stops_only_where_the_recipe_says_so():
    rows = (record("q", "a"), record("q", "", 3), BadRow("x.csv:4", "why", "text"))
    assert cleaned(*rows)[0].stop is None
    done, _ = cleaned(*rows, bad_rows="stop")
    assert done.stop == ("x.csv:3", "the answer of this row is empty.")


def test_the_longest_row_that_ends_well_and_needed_no_repair_is_the_best():
    rows = (
        record("q", "a" * 50 + "."),
        record("q", "a" * 50),
        record("q", "<b>" + "a" * 50 + "</b>."),
        record("q", "a" * 90 + "."),
    )
    done, _ = cleaned(*rows, max_repetition=1.0)
    order = np.argsort(-done.table.quality).tolist()
    assert order == [3, 0, 2, 1]
    assert done.table.quality.tolist() == [72, 51, 52, 112]


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("13812345678", "13*******78"),
        ("张三", "**"),
        ("11010519491231002X", "110************02X"),
        ("", ""),
    ],
)
def test_a_listed_secret_shows_only_its_ends(secret, shown):
    assert hidden(secret) == shown


def test_a_hash_is_the_same_in_every_process_and_no_key_for_nothing():
    assert hash_of("") == NO_KEY
    assert hash_of("a") == hash_of("a") != hash_of("b")
    assert 0 <= hash_of("\ud83d") < 2**63


def test_the_system_prompt_of_the_recipe_is_no_part_of_a_passage():
    source = Source(path="x.csv", layout="text")
    settings = RowSettings((source,), CleanSection(), "be kind", None)
    passage = Record({"text": "A passage."}, "x.txt:1")
    done = clean_chunk(Chunk(0, 0, "text", (passage,)), settings)
    assert json.loads(from_line(done.lines[0]).conversation)["messages"] == [
        {"role": "text", "content": "A passage."}
    ]
