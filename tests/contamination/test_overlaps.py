import math
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from burnish.contamination import overlaps as contamination
from burnish.contamination.index import Item, build_index, passage, words
from burnish.contamination.items import BENCHMARKS, load_items
from burnish.contamination.overlaps import (
    Overlap,
    find_overlaps,
    held_out_items,
    text_of,
    without_terms,
)
from burnish.conversation import Conversation, Message
from burnish.reading.files import read_records
from burnish.recipe import ContaminationSettings, Source

REAL = Path(__file__).parents[3] / "shared" / "data"

ENGLISH = (
    "A ferry leaves the harbour every forty minutes and needs half an hour for the crossing; how "
    "many ferries does it meet on its way?"
)  # 24 words without the article "a"
CHINESE = (
    "渡轮每四十分钟从港口开出一班，渡海需要半个小时，请问它在途中会遇到几班渡轮"  # 35 characters
)
SHORT = "Which harbour town has the most ferries a day?"  # 8 words


def find_overlap(text, index):
    (found,) = find_overlaps([text], index)
    return found


def index_of(*questions, choices="", **settings):
    items = [Item("quiz", f"quiz/{n}", q, choices) for n, q in enumerate(questions, start=1)]
    return build_index(items, 13, **settings)


def test_a_whole_question_is_found_with_its_text_and_share():
    row = f"Please think. {ENGLISH.upper()}\nIt meets two."
    assert find_overlap(row, index_of(SHORT, ENGLISH)) == Overlap(
        benchmark="quiz",
        item="quiz/2",
        kind="whole",
        gram=ENGLISH.lower().removeprefix("a ").removesuffix("?"),
        num_words=24,
        share=1.0,
    )


@pytest.mark.parametrize(
    ("first", "count", "kind"),
    [
        (0, 24, "whole"),
        (0, 23, "run"),
        (0, 13, "run"),
        (11, 13, "run"),
        (0, 12, "half"),
        (6, 12, "half"),
        (12, 12, "half"),
        (6, 11, None),
    ],
)
def test_a_part_counts_from_thirteen_words_or_half_a_question(first, count, kind):
    row = f"one two. {passage(ENGLISH, first, count)} three"
    found = find_overlap(row, index_of(ENGLISH))
    if kind is None:
        assert found is None
    else:
        assert (found.kind, found.num_words) == (kind, count)
        assert found.share == count / 24
        assert found.is_sure == (kind != "half")


@pytest.mark.parametrize("first", [0, 11, 22])
def test_thirteen_characters_of_a_chinese_question_are_found(first):
    assert len(words(CHINESE)) == 35
    part = passage(CHINESE, first, 13)
    assert find_overlap(f"好的。{part}。谢谢", index_of(CHINESE)).gram == part
    assert find_overlap(f"好的。{passage(CHINESE, first, 12)}。谢谢", index_of(CHINESE)) is None


def test_a_short_question_must_stand_there_whole():
    index = index_of(SHORT)
    assert find_overlap(f"Tell me: {SHORT}", index).kind == "whole"
    assert find_overlap("Which harbour town has the most ferries?", index) is None


def test_a_question_under_eight_words_cant_be_told_from_chance():
    index = index_of("Why is the sea salty?")
    assert index.unchecked == ("quiz/1",)
    assert find_overlap("Why is the sea salty?", index) is None


def test_a_short_question_is_found_by_its_choices_however_they_are_numbered():
    index = index_of("Where do ferries moor?", choices="at the quay\nin deep water\non the beach")
    assert index.unchecked == ()
    numbered = "Where do ferries moor?\nA. at the quay\nB. in deep water\nC. on the beach"
    assert find_overlap(numbered, index).kind == "run"
    assert find_overlap(numbered, index).num_words == 13
    assert find_overlap("at the quay, in deep water, on the beach, and so on", index) is None


def test_boilerplate_of_many_questions_is_no_leak():
    start = "which of the following statements about ferries is true if"
    questions = [f"{start} harbour{n} lies in the north of town{n}" for n in range(11)]
    index = index_of(*questions)
    assert find_overlap(f"{start} you ask me", index) is None
    assert find_overlap(questions[7], index).item == "quiz/8"


def test_interleaved_text_hides_a_question_only_in_small_pieces():
    index = index_of(ENGLISH)
    halves = f"{passage(ENGLISH, 0, 12)} (he paused) {passage(ENGLISH, 12, 12)}"
    found = find_overlap(halves, index)
    assert (found.kind, found.num_words, found.share) == ("half", 12, 1.0)
    pieces = [passage(ENGLISH, first, 6) for first in range(0, 24, 6)]
    assert find_overlap(" (he paused) ".join(pieces), index) is None


def test_the_surest_overlap_is_told():
    longer = f"{passage(ENGLISH, 0, 20)} {' '.join(f'more{n}' for n in range(30))}"
    index = index_of(longer, ENGLISH, SHORT)
    row = f"{SHORT} {passage(ENGLISH, 0, 20)}"
    assert find_overlap(row, index).item == "quiz/3"  # whole
    assert find_overlap(passage(ENGLISH, 0, 20), index).item == "quiz/2"  # 20 of 24, not of 50


def test_many_texts_give_what_each_gives_alone(monkeypatch):
    index = index_of(ENGLISH, CHINESE, SHORT)
    texts = [CHINESE, "", "nothing", SHORT, f"x {ENGLISH}", "好", passage(ENGLISH, 3, 12)]
    monkeypatch.setattr(contamination, "ROWS_AT_ONCE", 2)
    found = find_overlaps(texts, index)
    assert found == [find_overlap(text, index) for text in texts]
    assert [o and o.item for o in found] == [
        "quiz/2", None, None, "quiz/3", "quiz/1", None, "quiz/1",
    ]  # fmt: skip


def test_half_a_question_in_many_rows_is_a_term():
    index = index_of(ENGLISH, SHORT)
    half, whole = passage(ENGLISH, 0, 12), SHORT
    few = find_overlaps([half, whole, half, half], index)
    assert without_terms(few) == few
    many = find_overlaps([half, whole, half, "no", half, whole, whole, whole, half], index)
    kinds = [overlap and overlap.kind for overlap in without_terms(many)]
    assert kinds == [None, "whole", None, None, None, "whole", "whole", "whole", None]


def test_a_row_counts_with_all_that_is_said_but_not_with_its_system_prompt():
    conversation = Conversation(
        (
            Message("system", "Be kind."),
            Message("user", "Add up.", "1 and 2"),
            Message("assistant", "3"),
            Message("user", "Sure?"),
            Message("assistant", "Yes."),
        ),
        "x.csv:2",
    )
    assert text_of(conversation) == "Add up.\n1 and 2\n3\nSure?\nYes."
    assert held_out_items([conversation], "test") == [
        Item("test", "x.csv:2", "Add up.\n1 and 2\n3\nSure?\nYes.")
    ]


def test_of_a_row_with_functions_the_calls_are_looked_at_and_the_tools_where_asked():
    call = {"name": "look_up", "arguments": {"q": ["Add", {"to": "up"}], "n": 3, "ok": True}}
    messages = (Message("user", "Go."), Message("assistant", "", tool_calls=(call,)))
    tools = ({"type": "function", "function": {"name": "look_up", "description": "Finds."}},)
    conversation = Conversation(messages, "x:1", tools)
    assert text_of(conversation) == "Go.\nlook_up\nAdd\nup"
    assert text_of(conversation, with_tools=True) == (
        "Go.\nlook_up\nAdd\nup\nfunction\nlook_up\nFinds."
    )


def test_of_held_out_rows_only_runs_count():
    index = build_index([Item("test", "x:9", f"{ENGLISH}\nTwo.")], 13, halves=False)
    assert find_overlap(passage(ENGLISH, 0, 12), index) is None
    found = find_overlap(passage(ENGLISH, 0, 20), index)
    assert (found.kind, found.item, found.share) == ("run", "x:9", 20 / 25)


some_words = st.lists(
    st.one_of(st.text(min_size=1, max_size=6), st.sampled_from("渡轮港口班次")), min_size=8
)


@given(some_words, st.text(), st.text())
def test_a_text_that_holds_a_question_whole_is_always_found(parts, before, after):
    question = "\n".join(parts)
    assume(len(words(question)) >= 8)
    found = find_overlap(f"{before}\n{question}\n{after}", index_of(question))
    assert (found.kind, found.share) == ("whole", 1.0)


@given(some_words, st.floats(0, 1), st.text(alphabet="xyz 渡轮", max_size=20))
def test_half_of_a_question_of_sixteen_words_is_always_found(parts, where, around):
    question = " ".join(parts * 2)
    total = len(words(question))
    assume(total >= 16)
    half = math.ceil(total / 2)
    part = passage(question, int(where * (total - half)), half)
    assert find_overlap(f"{around}\n{part}\n{around}", index_of(question)) is not None


real = pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not here")


def read(path):
    return read_records(Source(path=path), max_unpacked_gib=1)


@pytest.fixture(scope="module")
def real_items():
    folder = str(REAL / "benchmarks")
    settings = ContaminationSettings(against=list(BENCHMARKS), benchmarks_folder=folder)
    items = load_items(settings, read)
    assert len(items) == 42_979
    return items


@pytest.fixture(scope="module")
def real_index(real_items):
    return build_index(real_items, 13)


def real_overlaps(name, index):
    texts = [
        "\n".join(value for value in row.fields.values() if isinstance(value, str))
        for row in read(str(REAL / name))
    ]
    return [overlap for overlap in without_terms(find_overlaps(texts, index)) if overlap]


@real
def test_the_leak_in_dolly_is_found_and_nothing_else(real_index):
    (leak,) = real_overlaps("general/dolly_train.json", real_index)
    assert (leak.item, leak.kind, leak.num_words, leak.share) == (
        "truthfulqa/generation/validation:677", "whole", 9, 1.0,
    )  # fmt: skip


@real
@pytest.mark.parametrize("name", ["general/alpaca_en_demo.json", "en-medical-qa/medquad_5k.jsonl"])
def test_english_sets_without_leaks_give_no_false_alarm(real_index, name):
    assert real_overlaps(name, real_index) == []


@real
def test_chinese_sets_give_no_sure_alarm_but_for_questions_that_are_a_name(real_index):
    for name in ("general/alpaca_zh_demo.json", "zh-medical-knowledge/knowledge.json"):
        sure = [overlap for overlap in real_overlaps(name, real_index) if overlap.is_sure]
        assert {overlap.item for overlap in sure} <= {"ceval/physician/test:365"}


@real
def test_few_questions_cant_be_checked(real_index):
    assert len(real_index.unchecked) == 240
    short = [name for name in real_index.unchecked if name.startswith("truthfulqa/")]
    assert len(short) == 235


@real
def test_every_tenth_question_is_found_with_its_choices_in_a_row(real_items, real_index):
    unchecked = set(real_index.unchecked)
    items = [item for item in real_items[::10] if item.name not in unchecked]
    rows = []
    for item in items:
        choices = zip("ABCDE", item.choices.split("\n"), strict=False)
        numbered = "\n".join(f"{letter}. {choice}" for letter, choice in choices)
        rows.append(f"请回答：\n{item.question}\n{numbered}\n答案：A")
    found = find_overlaps(rows, real_index)
    missed = [item for item, overlap in zip(items, found, strict=True) if overlap is None]
    assert missed == []


@real
@pytest.mark.parametrize("where", [0, 0.5, 1])
def test_half_of_every_gsm8k_question_of_sixteen_words_is_found(real_items, real_index, where):
    questions = [item.question for item in real_items if item.benchmark == "gsm8k"]
    rows = []
    for question in questions:
        total = len(words(question))
        half = math.ceil(total / 2)
        if total >= 16:
            rows.append(f"Hello. {passage(question, int((total - half) * where), half)}. Bye.")
    assert len(rows) == 1318
    assert None not in find_overlaps(rows, real_index)
