"""Rows are found by number, origin, chance, length and what is cut."""

from __future__ import annotations

import pytest

from burnish.dataset.preview import Wanted, preview, wanted, write_preview
from burnish.errors import DataError, RecipeError, RunError
from burnish.pipeline import run_stage
from burnish.recipe_file import load_recipe
from burnish.run_dir import RunDir
from tests.conftest import alpaca_rows, byte_tokenizer, write_recipe


@pytest.fixture
def cleaned(tmp_path, tiny_model):
    """Forty rows, of which row 5 has the longest answer and row 9 the shortest."""
    rows = alpaca_rows(40)
    rows[4]["output"] = "long " * 30 + "."
    rows[6]["output"] = "longish " * 15 + "."
    rows[8]["output"] = "a"
    text = f"""\
run_dir: {{folder}}/run
model: {{{{name_or_path: {tiny_model}}}}}
data: {{{{sources: [{{{{path: {{data}}}}}}]}}}}
clean: {{{{drop_near_duplicates: false, max_repetition: 1}}}}
prepare: {{{{max_length: 128}}}}
"""
    loaded = load_recipe(write_recipe(tmp_path, text, rows))
    assert run_stage("clean", loaded)["num_kept"] == 40
    recipe = loaded.recipe
    return recipe.model, recipe.prepare, RunDir(loaded.run_dir)


def texts(cleaned, **asked):
    shown, tokenizer = preview(*cleaned, Wanted(**asked))
    return [tokenizer.decode(example.input_ids) for example in shown]


def origins(cleaned, **asked):
    return [example.origin for example in preview(*cleaned, Wanted(**asked))[0]]


def test_a_row_is_chosen_by_its_number_and_those_behind_it_follow(cleaned):
    (text,) = texts(cleaned, row=3)
    assert "Question 2?" in text
    both = texts(cleaned, row=39, count=5)
    assert ["Question 38?" in both[0], "Question 39?" in both[1]] == [True, True]
    assert len(both) == 2


def test_a_row_is_chosen_by_its_origin(cleaned):
    (origin,) = origins(cleaned, row=3)
    (text,) = texts(cleaned, origin=origin)
    assert "Question 2?" in text
    with pytest.raises(DataError, match="cleaning kept no row from there"):
        preview(*cleaned, Wanted(origin="rows.json:9999"))


def test_the_seed_chooses_rows_at_random(cleaned):
    assert origins(cleaned) == origins(cleaned)
    some = [origins(cleaned, seed=seed, count=3) for seed in (1, 1, 2)]
    assert some[0] == some[1] != some[2]
    assert len(set(some[0])) == 3
    assert len(origins(cleaned, seed=1, count=99)) == 40


def test_the_longest_the_shortest_and_the_most_cut_are_found(cleaned):
    longest, second = texts(cleaned, order="longest", count=2)
    assert ["Question 4?" in longest, "Question 6?" in second] == [True, True]
    (shortest,) = texts(cleaned, order="shortest")
    assert "Question 8?" in shortest
    cut = preview(*cleaned, Wanted(order="most_cut", count=5))[0]
    assert len(cut) == 2
    assert cut[0].num_cut > cut[1].num_cut > 0
    assert (cut[0].why, cut[0].num_tokens) == ("most cut", 128)


def test_where_nothing_is_cut_none_is_shown(cleaned):
    model, section, run = cleaned
    section = section.model_copy(update={"max_length": 1000})
    with pytest.raises(DataError, match="there is no such row"):
        preview(model, section, run, Wanted(order="most_cut"))


@pytest.mark.parametrize("row", [0, -1, 41])
def test_a_row_that_is_not_there_is_refused(cleaned, row):
    with pytest.raises(DataError, match=f"no row {row}; cleaning kept 40"):
        preview(*cleaned, Wanted(row=row))


def test_options_say_which_rows_and_two_of_them_are_refused():
    assert wanted(None, None, [], None, 1) == Wanted()
    assert wanted(None, None, ["random"], 7, 2) == Wanted(seed=7, count=2)
    assert wanted(None, None, ["longest"], None, 1) == Wanted(order="longest")
    for options in (
        (3, "a:1", [], None),
        (3, None, ["longest"], None),
        (None, None, ["longest", "shortest"], None),
        (None, None, ["longest"], 4),
    ):
        with pytest.raises(RecipeError, match="more than one way"):
            wanted(*options, 1)


def test_examples_are_written_as_a_page(cleaned, tmp_path):
    shown, tokenizer = preview(*cleaned, Wanted(row=3))
    write_preview(tmp_path / "x.html", shown, tokenizer)
    assert shown[0].origin in (tmp_path / "x.html").read_text(encoding="utf-8")
    with pytest.raises(RunError, match="can't be written"):
        write_preview(tmp_path, shown, byte_tokenizer())


def test_each_example_of_a_row_is_shown(tmp_path, tiny_model):
    turns = [("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two")]
    rows = [{"messages": [{"role": role, "content": text} for role, text in turns]}]
    text = f"""\
run_dir: {{folder}}/run
model: {{{{name_or_path: {tiny_model}}}}}
data: {{{{sources: [{{{{path: {{data}}}}}}]}}}}
prepare: {{{{train_on: each}}}}
"""
    loaded = load_recipe(write_recipe(tmp_path, text, rows))
    run_stage("clean", loaded)
    run, recipe = RunDir(loaded.run_dir), loaded.recipe
    shown, _ = preview(recipe.model, recipe.prepare, run, Wanted(row=1))
    assert [example.num_supervised for example in shown] == [len("one") + 1, len("two") + 1]
    too_short = recipe.prepare.model_copy(update={"max_length": 8})
    with pytest.raises(DataError, match="cuts off the whole answer"):
        preview(recipe.model, too_short, run, Wanted(row=1))
