import pytest

from burnish.conversation import Conversation, Message
from burnish.dataset.overlap import find_train_overlaps, overlap_rejection


def row(origin, question, answer):
    return Conversation((Message("user", question), Message("assistant", answer)), origin)


LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def test_a_training_row_that_shares_most_words_of_a_held_out_row_is_named():
    splits = {
        "train": [row("x:1", "Count!", LONG), row("x:2", "Sing!", "La la la.")],
        "validation": [],
        "test": [row("x:3", "Please count.", LONG)],
    }
    found = find_train_overlaps(splits)
    assert list(found) == ["x:1"]
    assert found["x:1"]["split"] == "test"
    assert found["x:1"]["held_out"] == "x:3"
    assert found["x:1"]["num_words"] == 15  # "count" and the fourteen
    assert found["x:1"]["share"] == pytest.approx(15 / 16)
    rejection = overlap_rejection(splits["train"][0], found["x:1"])
    assert (rejection.origin, rejection.rule) == ("x:1", "overlap")
    assert rejection.reason == ("it shares 94% of the words of x:3, which is held out (test).")


def test_a_turn_of_phrase_in_a_long_held_out_row_is_no_leak():
    rest = " ".join(f"word{i}" for i in range(60))
    splits = {
        "train": [row("x:1", "Count!", LONG)],
        "validation": [row("x:2", "Count again, and go on.", f"{LONG} {rest}")],
        "test": [],
    }
    assert find_train_overlaps(splits) == {}


def test_without_held_out_or_training_rows_there_is_no_overlap():
    some = [row("x:1", "q", LONG)]
    assert find_train_overlaps({"train": some, "validation": [], "test": []}) == {}
    assert find_train_overlaps({"train": [], "validation": some, "test": []}) == {}
