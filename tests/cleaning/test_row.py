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
from burnish.contamination.index import Item, build_index
from burnish.conversation import BadRow, Record
from burnish.reading.json_rows import json_lines
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


PHONE = "13812345678"
TALK = [
    {"role": "user", "content": f"<b>138</b>12345678 或 {PHONE}"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "sms", "arguments": {"to": [PHONE], "n": 2}}}],
    },
    {"role": "tool", "content": "ok  ok"},
    {"role": "assistant", "content": "好的，"},
]
TOOLS = [{"type": "function", "function": {"name": "sms", "description": f"Ask {PHONE}."}}]
ROWS = (
    Record({"messages": TALK, "tools": TOOLS}, "x.jsonl:1"),
    Record({"messages": [{"role": "user", "content": f"a\n{PHONE}"}]}, "x.jsonl:2"),
    Record({"messages": [{"role": PHONE, "content": "a"}]}, "x.jsonl:3"),
    BadRow("x.jsonl:4", f"the key {PHONE!r} stands twice", f'{{"a": "b\\n{PHONE}'),
)


def lines_of(action):
    section = CleanSection(privacy={"action": action})
    settings = RowSettings((Source(path="x.jsonl"),), section, None, None)
    return clean_chunk(Chunk(0, 0, "messages", ROWS), settings).lines


@pytest.mark.parametrize("action", ["mask", "drop"])
def test_no_line_of_a_row_holds_a_secret_where_it_is_masked_or_dropped(action):
    for line in lines_of(action):
        assert PHONE[3:] not in line.decode()
    talk, *others = map(from_line, lines_of(action))
    assert [rule for rule, _ in talk.broken] == ["truncated", *["private"] * (action == "drop")]
    assert talk.text.startswith("user: [手机号] 或 [手机号]\n")
    assert [result.text for result in others] == [
        '{"messages": [{"role": "user", "content": "a\\n[phone]"}]}',
        '{"messages": [{"role": "[phone]", "content": "a"}]}',
        '{"a": "b\n[phone]',
    ]
    assert others[-1].broken == [["unreadable", "the key '[phone]' stands twice"]]
    assert [(finding["field"], finding["kind"], finding["text"]) for finding in talk.findings] == [
        ("messages[0].content", "mobile", "13*******78"),
        ("messages[0].content", "mobile", "13*******78"),
        ("messages[1].tool_calls[0].arguments.to[0]", "mobile", "13*******78"),
        ("tools[0].function.description", "mobile", "13*******78"),
    ]


def test_masking_keeps_the_structure_of_calls_and_tools():
    written = json.loads(from_line(lines_of("mask")[0]).conversation)
    assert written["messages"][1]["tool_calls"] == [
        {"type": "function", "function": {"name": "sms", "arguments": {"to": ["[phone]"], "n": 2}}}
    ]
    assert written["tools"][0]["function"] == {"name": "sms", "description": "Ask [phone]."}


def test_dropping_changes_nothing_but_the_texts_and_the_fate_of_a_row():
    detected, dropped = (list(map(from_line, lines_of(a))) for a in ("detect", "drop"))
    assert [r.faults for r in dropped] == [r.faults for r in detected]
    assert [r.findings for r in dropped] == [r.findings for r in detected]
    assert [[c["repairs"] for c in r.changes] for r in dropped] == [
        [["strip_html"], ["squeeze_spaces"]],
        [],
        [],
        [],
    ]
    assert detected[0].changes[0]["before"] == TALK[0]["content"]
    assert detected[1].text == json.dumps(ROWS[1].fields, ensure_ascii=False)
    assert detected[3].text == ROWS[3].text


QUESTION = "Which nerve supplies the muscle that lifts the upper eyelid of the eye my number is"


@pytest.mark.parametrize(
    ("messages", "tools"),
    [
        ([{"role": "user", "content": f"{QUESTION} {PHONE}"}], []),
        (
            [
                {"role": "user", "content": "q"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {"function": {"name": "f", "arguments": {"q": [f"{QUESTION} {PHONE}"]}}}
                    ],
                },
            ],
            [],
        ),
        ([{"role": "user", "content": "q"}], [{"name": "f", "description": f"{QUESTION} {PHONE}"}]),
    ],
    ids=["said", "called", "described"],
)
@pytest.mark.parametrize(
    ("action", "gram"),
    [
        ("off", f"{QUESTION} {PHONE}"),
        ("detect", f"{QUESTION} {PHONE}"),
        ("mask", QUESTION),
        ("drop", QUESTION),
    ],
)
def test_benchmark_items_are_looked_for_in_calls_and_tools_and_listed_without_secrets(
    messages, tools, action, gram
):
    fields = {"messages": [*messages, {"role": "assistant", "content": "a"}], "tools": tools}
    index = build_index([Item("b", "b:1", f"{QUESTION} {PHONE}")], 13)
    section = CleanSection(privacy={"action": action})
    settings = RowSettings((Source(path="x.jsonl"),), section, None, index)
    done = clean_chunk(Chunk(0, 0, "messages", (Record(fields, "x.jsonl:1"),)), settings)
    assert from_line(done.lines[0]).overlap["gram"] == gram.lower()


def test_a_number_stands_in_a_row_as_it_is_written_in_its_file():
    (row,) = json_lines(['{"instruction": 3.50, "output": 1.0e5}'], "x.jsonl")
    _, (result,) = cleaned(row, min_answer_chars=1)
    said = [message["content"] for message in json.loads(result.conversation)["messages"]]
    assert said == ["3.50", "1.0e5"]


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
