"""From what is named to a recipe."""

from __future__ import annotations

import json

import pytest

from burnish.auditing.targets import look_at, recipe_of
from burnish.errors import DataError, RecipeError, RunError
from burnish.recipe import Columns, DataSection, Source


def written(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def data_of(folder, target, *overrides):
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return recipe_of(target, overrides, scratch).data


def test_a_recipe_is_read_as_it_is(tmp_path):
    path = written(tmp_path, "r.yml", "data: {sources: [{path: no.csv}]}\n")
    assert data_of(tmp_path, path) == DataSection(sources=[Source(path="no.csv")])
    assert data_of(tmp_path, path, "data.sources[0].limit=3").sources[0].limit == 3


def test_a_folder_with_a_recipe_in_it_is_a_run(tmp_path):
    written(tmp_path, "run/recipe.yaml", "data: {sources: [{path: no.csv}]}\n")
    assert data_of(tmp_path, str(tmp_path / "run")).sources == [Source(path="no.csv")]


def test_columns_of_a_data_file_are_guessed_as_for_a_new_recipe(tmp_path):
    path = written(tmp_path, "a.csv", "部门,问题,答案\n内科,头痛怎么办？,多休息。\n")
    assert data_of(tmp_path, path).sources == [
        Source(path=path, columns=Columns(instruction="问题", output="答案"))
    ]


def test_a_known_layout_is_left_to_each_file(tmp_path):
    row = json.dumps({"messages": [{"role": "user", "content": "a"}]})
    path = written(tmp_path, "a.jsonl", row + "\n")
    assert data_of(tmp_path, path).sources == [Source(path=path)]


def test_settings_count_for_a_data_file_and_columns_of_your_own_stop_the_guess(tmp_path):
    path = written(tmp_path, "a.csv", "p,q\nLong long long,short\n")
    data = data_of(tmp_path, path, "data.sources[0].columns={instruction: p, output: q}")
    assert data.sources[0].columns == Columns(instruction="p", output="q")
    with pytest.raises(RecipeError, match=r"--set clean\.no=1"):
        data_of(tmp_path, path, "clean.no=1")


def test_data_in_which_no_column_looks_like_an_answer_is_an_error(tmp_path):
    path = written(tmp_path, "a.csv", "id,age\n1,2\n")
    with pytest.raises(DataError, match="no column looks like an answer"):
        data_of(tmp_path, path)


def test_a_folder_of_data_is_data(tmp_path):
    written(tmp_path, "many/a.jsonl", '{"instruction": "a", "output": "b"}\n')
    path = str(tmp_path / "many")
    assert data_of(tmp_path, path).sources == [Source(path=path)]


def test_the_folder_of_an_unfinished_run_is_refused_and_says_what_to_do(tmp_path):
    written(tmp_path, "run/1-clean/parts/000000.jsonl", '{"origin": "a.csv:2"}\n')
    with pytest.raises(RunError) as caught:
        data_of(tmp_path, str(tmp_path / "run"))
    assert str(caught.value) == (
        f"{tmp_path}/run: this is the folder of a run of which no stage is finished, so its recipe "
        "is not in it.\n"
        "  Look at the data by the recipe, burnish audit RECIPE.yaml, or finish the stage first: "
        "burnish clean RECIPE.yaml"
    )


def test_a_first_row_without_an_answer_hides_no_layout_and_no_column(tmp_path):
    rows = [{"ask": "q"}, {"ask": "q", "answer": "an answer"}]
    path = written(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    data = data_of(tmp_path, path)
    assert data.sources[0].columns == Columns(instruction="ask", output="answer")
    path = written(tmp_path, "b.jsonl", '{"id": 1}\n{"instruction": "a", "output": "b"}\n')
    data = data_of(tmp_path, path)
    assert data.sources == [Source(path=path)]
    assert look_at(data.sources[0], data, 2).layout == "alpaca"


def test_looks_at_the_first_rows_say_nothing(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_bytes("instruction,output\n问,答\n".encode("gb18030"))
    data = data_of(tmp_path, str(path))
    look_at(data.sources[0], data, 1)
    assert capsys.readouterr().err == ""


def test_a_source_is_described_by_its_layout_and_columns(tmp_path):
    path = written(tmp_path, "a.jsonl", '{"instruction": "a", "output": "b"}\n')
    plain = Source(path=path)
    joined = Source(path=path, columns=Columns(instruction=["a", "b"], output="c"))
    data = DataSection(sources=[plain, joined])
    assert look_at(plain, data, 3).model_dump() == {
        "layout": "alpaca",
        "columns": {},
        "num_rows": 3,
    }
    assert look_at(joined, data, 0).columns == {"instruction": "a + b", "output": "c"}
