import csv
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.cleaning.duplicates import (
    assign_groups,
    exact_key,
    find_duplicates,
    find_exact,
    parts_of,
    question_text,
    signatures,
)
from burnish.cleaning.likeness import Likeness, jaccard_of, similarity
from burnish.cleaning.minhash import GRAM, normalize
from burnish.conversation import Conversation, Message
from burnish.dataset.split import place

REAL = Path(__file__).parents[2].parent / "shared" / "data"

HAN = [chr(0x4E00 + i) for i in range(2500)]
LATIN = "etaoinshrdlucmfwypvbgkjqxz"


def asked(question, answer, context="", system=""):
    first = (Message("system", system),) if system else ()
    return Conversation(
        (*first, Message("user", question, context), Message("assistant", answer)), "a:1"
    )


def found_in(rows, key="row", threshold=0.6):
    """The duplicates among pairs of question and answer; the longer, the better."""
    conversations = [asked(*row) for row in rows]
    keys = np.frombuffer(b"".join(exact_key(c, key) for c in conversations), np.uint8)
    return find_duplicates(
        keys.reshape(-1, 16),
        signatures(conversations, key),
        np.array([len(question) + len(answer) for question, answer in rows], np.float32),
        Likeness(lambda row: parts_of(conversations[row], key), threshold),
    )


def made_up(number, draw):
    """Questions and answers of made-up words, Chinese-like and English-like by turns."""
    weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(5000)))
    chinese = ["".join(draw.choices(HAN, k=draw.choice((1, 2, 2, 3)))) for _ in range(5000)]
    english = ["".join(draw.choices(LATIN, k=draw.randint(2, 9))) + " " for _ in range(5000)]
    rows = []
    for index in range(number):
        words, size = (english, 8) if index % 2 else (chinese, 20)
        question = draw.choices(words, cum_weights=weights, k=draw.randint(6, size))
        answer = draw.choices(words, cum_weights=weights, k=draw.randint(size, 4 * size))
        rows.append(("".join(question) + "？", "".join(answer) + "。"))
    return rows


def edited(text, share, draw):
    letters = list(text)
    for _ in range(round(len(text) * share)):
        at, kind = draw.randrange(len(letters)), draw.randrange(3)
        new = draw.choice("的一是了我人在他有" if text[0] >= "一" else LATIN)
        letters[at : at + (kind != 1)] = [new] * (kind != 2)
    return "".join(letters)


def copy_of(row, kind, draw):
    question, answer = row
    polite = "祝您健康！" if answer[0] >= "一" else " Hope this helps!"
    return {
        "edits": lambda: (edited(question, 0.03, draw), edited(answer, 0.03, draw) + polite),
        "many edits": lambda: (edited(question, 0.05, draw), edited(answer, 0.05, draw)),
        "question": lambda: (edited(question, 0.05, draw), answer),
        "answer": lambda: (question, edited(answer, 0.05, draw)),
        "marks": lambda: (question.replace("？", " ?"), answer.replace(" ", ", ") + "！"),
        "case": lambda: (question.upper(), answer.title()),
    }[kind]()


KINDS = ("edits", "many edits", "question", "answer", "marks", "case")


def planted(rows, number, draw):
    """The rows with near-copies of random ones, shuffled, and pairs of original and copy."""
    origin = [(index, None) for index in range(len(rows))]
    all_rows = list(rows)
    for index in range(number):
        original = draw.randrange(len(rows))
        all_rows.append(copy_of(rows[original], KINDS[index % len(KINDS)], draw))
        origin.append((original, KINDS[index % len(KINDS)]))
    order = draw.sample(range(len(all_rows)), len(all_rows))
    return [all_rows[i] for i in order], [origin[i] for i in order]


def score(found, origin):
    """The share of copies found, and the share of rows that go for a row of another origin."""
    place = {original: row for row, (original, kind) in enumerate(origin) if kind is None}
    gone = found.kept_instead >= 0
    hits = [gone[row] or gone[place[o]] for row, (o, kind) in enumerate(origin) if kind]
    false = [
        origin[row][0] != origin[int(found.kept_instead[row])][0]
        for row in np.flatnonzero(gone)
        if origin[row][1] is None
    ]
    return sum(hits) / len(hits), sum(false) / len(place)


def test_blanks_do_not_change_the_exact_key_but_roles_and_inputs_do():
    key = exact_key(asked("a b", "c"))
    assert len(key) == 16
    assert key == exact_key(asked(" a \n b ", "c"))
    others = [asked("ab", "c"), asked("a", "c", "b"), asked("a b", "C"), asked("a b", "c", "", "s")]
    assert len({key, *map(exact_key, others)}) == 5


def test_tools_and_their_calls_are_part_of_the_exact_key():
    plain = asked("weather?", "")
    call = Message("assistant", "", tool_calls=({"name": "weather", "arguments": {}},))
    calling = Conversation((plain.messages[0], call), "a:1")
    equipped = Conversation(plain.messages, "a:1", tools=({"name": "weather"},))
    assert len(set(map(exact_key, (plain, calling, equipped)))) == 3


def test_by_question_rows_with_one_question_are_equal():
    one, other = asked("a", "b"), asked("a", "c")
    assert exact_key(one) != exact_key(other)
    assert exact_key(one, "question") == exact_key(other, "question")


def test_passages_have_no_question_and_are_compared_whole():
    one, other = (Conversation((Message("text", text),), "a:1") for text in "ab")
    assert exact_key(one, "question") != exact_key(other, "question")
    assert parts_of(one, "question").whole.strip() == "a"
    assert question_text(one) == ""


def test_the_parts_of_a_row_are_history_question_answer_and_system_prompt():
    messages = (
        Message("system", "s"),
        Message("user", "q1"),
        Message("assistant", "a1"),
        Message("user", "q2", "i2"),
        Message("tool", "t"),
        Message("assistant", "a2"),
    )
    parts = parts_of(Conversation(messages, "a:1"))
    assert (parts.system, parts.history) == ("s", "q1\na1")
    assert (parts.question, parts.answer) == ("q2\ni2\nt", "a2")
    assert parts_of(Conversation(messages, "a:1"), "question").answer == ""


def test_equal_questions_have_one_text():
    assert question_text(asked("What is it?", "a", "", "s")) == "whatisit"
    assert question_text(asked("what is it", "b")) == "whatisit"


def test_a_row_that_is_none_has_no_signature():
    signed = signatures([asked("a", "b"), None])
    assert signed[0].any()
    assert not signed[1].any()
    assert signatures([]).shape[0] == 0


def test_the_first_of_equal_keys_is_found():
    keys = np.frombuffer(b"".join(bytes([k] * 16) for k in (7, 3, 7, 7, 3, 9)), np.uint8)
    assert find_exact(keys.reshape(-1, 16)).tolist() == [0, 1, 0, 0, 1, 5]
    assert find_exact(np.empty((0, 16), np.uint8)).tolist() == []


def test_keys_that_differ_in_one_half_are_not_equal():
    keys = np.frombuffer(b"a" * 16 + b"a" * 8 + b"b" * 8 + b"b" * 8 + b"a" * 8, np.uint8)
    assert find_exact(keys.reshape(-1, 16)).tolist() == [0, 1, 2]


def test_no_rows_have_no_duplicates():
    found = found_in([])
    assert found.pairs.shape == (0, 2)
    assert found.first.tolist() == found.kept_instead.tolist() == []


QUESTION = "孩子三天前开始发热咳嗽，体温最高三十九度，吃了退烧药以后又烧起来，需要去医院吗？"
ANSWER = "建议带孩子到医院检查血常规，多喝温水，注意观察精神状态，体温过高时及时服用退热药物。"


def test_the_best_row_of_a_cluster_is_kept_and_named():
    rows = [
        (QUESTION, ANSWER),
        ("牙痛怎么办？", "先看牙医。"),
        (QUESTION, ANSWER.replace("温水", "开水") + "祝早日康复。"),
        (QUESTION.replace("？", " ?"), ANSWER),
        (QUESTION, ANSWER),
    ]
    found = found_in(rows)
    assert found.first.tolist() == [0, 1, 2, 3, 0]
    assert found.kept_instead.tolist() == [2, -1, -1, 2, 2]
    assert found.similarity[1] == found.similarity[2] == 0
    expected = similarity(parts_of(asked(*rows[0])), parts_of(asked(*rows[2])), 0.6)
    assert found.similarity[[0, 4]].tolist() == pytest.approx([expected] * 2)
    assert found.pairs.tolist() == [[0, 2], [0, 3], [0, 4]]


def test_the_earlier_of_two_equally_good_rows_is_kept():
    other = QUESTION.replace("开始", "幵始")
    assert found_in([(QUESTION, ANSWER), (other, ANSWER)]).kept_instead.tolist() == [-1, 0]


def test_equal_rows_go_for_the_first_though_none_is_near():
    found = found_in([("a", "b"), ("c", "d"), ("a", " b")])
    assert found.kept_instead.tolist() == [-1, -1, 0]
    assert found.similarity.tolist() == [0, 0, 1]
    assert found.pairs.tolist() == [[0, 2]]


def test_no_row_goes_along_a_chain():
    # Each text shares all but 30 of 200 letters with the next: 167 of 227 grams in one step, too
    # few in two.
    letters = "".join(chr(0x6B40 + i) for i in range(300))
    chain = [("", letters[at : at + 200]) for at in (0, 30, 60)]
    middle_best = found_in([chain[0], (chain[1][0] + " ", chain[1][1] + "。"), chain[2]])
    assert middle_best.kept_instead.tolist() == [1, -1, 1]
    first_best = found_in([(chain[0][0], chain[0][1] + "。"), chain[1], chain[2]])
    assert first_best.kept_instead.tolist() == [-1, 0, -1]
    assert first_best.pairs.tolist() == [[0, 1], [1, 2]]


def test_by_question_a_row_with_another_answer_goes():
    rows = [
        (QUESTION, "是的。"),
        (QUESTION.replace("发热", "发烧"), "不用，先在家里观察两天再说。"),
    ]
    assert found_in(rows).kept_instead.tolist() == [-1, -1]
    assert found_in(rows, key="question").kept_instead.tolist() == [1, -1]


def test_planted_copies_are_found_and_hardly_a_row_goes_for_another():
    draw = random.Random(11)
    rows, origin = planted(made_up(3000, draw), 600, draw)
    recall, false = score(found_in(rows), origin)
    assert recall >= 0.99
    assert false <= 0.01


def test_the_order_of_rows_does_not_change_the_clusters():
    draw = random.Random(12)
    rows, _ = planted(made_up(400, draw), 150, draw)

    def clusters(rows):
        cluster = {row: {row} for row in rows}
        for one, other in found_in(rows).pairs.tolist():
            cluster[rows[one]] |= cluster[rows[other]]
            for row in cluster[rows[one]]:
                cluster[row] = cluster[rows[one]]
        return {frozenset(each) for each in cluster.values()}

    expected = clusters(rows)
    assert len(expected) < len(rows)
    for _ in range(3):
        assert clusters(draw.sample(rows, len(rows))) == expected


def test_the_same_rows_give_the_same_duplicates():
    draw = random.Random(13)
    rows, _ = planted(made_up(300, draw), 100, draw)
    one, other = found_in(rows), found_in(rows)
    for name in ("first", "kept_instead", "similarity", "pairs"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


@st.composite
def families(draw):
    """Rows that are near or equal to some others, and to some only along chains."""
    random_draw = random.Random(draw(st.integers(0, 10**6)))
    base = made_up(3, random_draw)
    rows = []
    for _ in range(draw(st.integers(1, 14))):
        row = random_draw.choice(rows or base)
        rows.append(random_draw.choice([row, copy_of(row, random_draw.choice(KINDS), random_draw)]))
        base = base[1:] or base
    return rows


@settings(max_examples=60, deadline=None)
@given(families())
def test_every_row_that_goes_names_a_kept_row_and_kept_rows_are_not_alike(rows):
    found = found_in(rows)
    parts = [parts_of(asked(*row)) for row in rows]
    kept = np.flatnonzero(found.kept_instead < 0).tolist()
    for row in np.flatnonzero(found.kept_instead >= 0).tolist():
        first, instead = int(found.first[row]), int(found.kept_instead[row])
        assert instead in kept
        alike = similarity(parts[first], parts[instead], 0.6)
        assert found.similarity[row] == pytest.approx(1.0 if first == instead else alike)
    for one, other in itertools.combinations(kept, 2):
        letters = normalize(parts[one].whole), normalize(parts[other].whole)
        seen = jaccard_of(*letters, GRAM) >= 0.6
        assert not seen or similarity(parts[one], parts[other], 0.6) is None
    assert (found.pairs[:, 0] < found.pairs[:, 1]).all()
    for one, other in found.pairs.tolist():
        assert found.first[other] == one or similarity(parts[one], parts[other], 0.6)


@settings(max_examples=40, deadline=None)
@given(families(), st.integers(0, 14), st.lists(st.integers(-1, 3), min_size=14, max_size=14))
def test_rows_that_are_appended_change_no_pairs_and_no_groups(rows, number, column):
    before, after = rows[:number], rows
    keys = np.array(column[: len(rows)], np.int64)
    pairs_before, pairs = found_in(before).pairs, found_in(after).pairs
    assert np.array_equal(pairs_before, pairs[pairs[:, 1] < len(before)])
    groups_before = assign_groups(len(before), pairs_before, [keys[: len(before)]])
    groups = assign_groups(len(after), pairs, [keys])
    assert groups_before == groups[: len(before)]
    for one, other in pairs.tolist():
        assert groups[one][0] in groups[other]


def test_a_row_belongs_to_the_groups_of_all_earlier_rows_that_it_is_linked_to():
    pairs = np.array([[0, 2], [1, 4], [2, 4], [3, 5]])
    assert assign_groups(7, pairs) == [(0,), (1,), (0,), (3,), (0, 1), (3,), (6,)]


def test_a_row_linked_to_one_between_two_groups_joins_the_older_alone():
    pairs = np.array([[0, 2], [1, 2], [2, 3]])
    assert assign_groups(4, pairs) == [(0,), (1,), (0, 1), (0,)]


def test_near_rows_that_are_kept_stand_on_one_side():
    draw = random.Random(15)
    base = made_up(40, draw)
    rows = list(base)
    for question, answer in base:
        for extra in ("可以。", "不可以。", "服5毫克。", "服50毫克。", "选A。", "选B。"):
            rows.append((question, answer + extra))
        rows.append((question, edited(answer, 0.05, draw)))
    draw.shuffle(rows)
    found = found_in(rows)
    linked = np.concatenate([found.pairs, found.akin])
    groups = assign_groups(len(rows), linked, [found.first])
    for seed in range(3):
        side = [{place(str(g), seed) < 0.5 for g in names} for names in groups]
        for one, other in itertools.combinations(range(len(rows)), 2):
            if len(side[one]) == len(side[other]) == 1 and side[one] != side[other]:
                letters = (normalize("".join(rows[one])), normalize("".join(rows[other])))
                assert jaccard_of(*letters, GRAM) < 0.6


def test_equal_keys_link_rows_to_the_first_and_minus_one_links_none():
    none = np.empty((0, 2), np.int64)
    questions = np.array([5, -1, 5, -1, 8, 8])
    assert assign_groups(6, none, [questions]) == [(0,), (1,), (0,), (3,), (4,), (4,)]
    patients = np.array([-1, -1, -1, 4, 4, -1])
    both = assign_groups(6, none, [questions, patients])
    assert both == [(0,), (1,), (0,), (3,), (3,), (3,)]
    assert assign_groups(0, none) == []


def real_rows():
    """Every row of the data sets, once."""
    rows = []
    with (REAL / "zh-medical-dialogue/dialogues.gb18030.csv").open(
        encoding="gb18030", newline=""
    ) as file:
        rows += [(f"{r['title']} {r['ask']}", r["answer"]) for r in csv.DictReader(file)]
    for name in ("zh-medical-knowledge/knowledge.json", "en-medical-qa/medquad_5k.jsonl"):
        lines = (REAL / name).read_text("utf-8").splitlines()
        rows += [alpaca(json.loads(line)) for line in lines if line.strip()]
    for name in ("alpaca_zh_demo", "alpaca_en_demo", "dolly_train"):
        rows += map(alpaca, json.loads((REAL / f"general/{name}.json").read_text("utf-8")))
    squeezed = [(" ".join(question.split()), " ".join(answer.split())) for question, answer in rows]
    return [row for row in dict.fromkeys(squeezed) if all(row)]


def alpaca(row):
    return f"{row['instruction']} {row.get('input') or ''}", row["output"]


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the shared data")
def test_planted_copies_of_real_rows_are_found():
    draw = random.Random(14)
    base = draw.sample(real_rows(), 20_000)
    rows, origin = planted(base, 5000, draw)
    recall, false = score(found_in(rows), origin)
    assert recall >= 0.99
    assert false <= 0.01
