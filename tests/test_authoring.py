import json
from pathlib import Path

import pytest

from burnish.authoring import guess_columns, new
from burnish.conversation import Record
from burnish.errors import DataError, RecipeError
from burnish.recipe import Columns
from burnish.recipe_file import load_recipe


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(name, content):
    Path(name).write_text(content, encoding="utf-8")
    report = new(Path(name))
    return report, load_recipe(Path(report.recipe)).recipe


def error(name, content):
    with pytest.raises(DataError) as caught:
        written(name, content)
    assert not Path(name).with_suffix(".yaml").exists()
    return str(caught.value)


def test_an_alpaca_file_is_recognised():
    row = {"instruction": "How are you?", "input": "", "output": "Well."}
    report, recipe = written("talk.json", json.dumps([row]))
    assert report.model_dump() == {
        "recipe": "talk.yaml",
        "layout": "alpaca",
        "columns": {},
        "language": "English",
    }
    assert recipe.run_dir == "runs/talk"
    assert recipe.data.sources[0].path == "talk.json"
    assert recipe.data.sources[0].layout == "alpaca"


def test_a_messages_file_is_recognised():
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    report, recipe = written("chat.jsonl", json.dumps({"messages": turns}) + "\n")
    assert report.layout == "messages"
    assert recipe.data.sources[0].layout == "messages"


def test_columns_are_recognised_by_their_names():
    report, recipe = written("data.csv", "部门,问题,答案\n内科,头痛怎么办？,多休息。\n")
    assert report.columns == {"instruction": "问题", "output": "答案"}
    assert report.language == "Chinese"
    assert recipe.data.sources[0].columns == Columns(instruction="问题", output="答案")


def test_columns_of_unknown_names_are_guessed_by_length():
    text = "id,tag,foo,bar\n1,x,Longer than the other one.,Why so?\n2,y,Another long one.,Who?\n"
    report, recipe = written("data.csv", text)
    assert report.columns == {"instruction": "bar", "output": "foo"}
    assert recipe.data.sources[0].columns == Columns(instruction="bar", output="foo")


def test_a_name_that_is_known_goes_before_length():
    rows = [Record({"Answer ": "a", "text": "long text", "context": "c"}, "a:1")]
    assert guess_columns(rows) == {"instruction": "text", "input": "context", "output": "Answer "}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1,2.5\n3,4\n", "no column looks like an answer; the columns are a, b."),
        ("a,b\n1,some text\n", "no column looks like a question; the columns are a, b."),
    ],
)
def test_a_file_without_two_columns_of_text_is_refused(content, expected):
    assert error("num.csv", content) == (
        f"num.csv:2: {expected}\n  A row needs a column with a question and one with its answer."
    )


@pytest.mark.parametrize(("name", "content"), [("a.csv", ""), ("a.csv", "q,a\n"), ("a.jsonl", "{")])
def test_a_file_without_a_readable_row_is_refused(name, content):
    assert error(name, content) == (
        f"{name}: there is no readable row in this file.\n  Look at the file."
    )


def test_an_existing_recipe_is_not_overwritten():
    Path("a.yaml").write_text("mine")
    with pytest.raises(RecipeError) as caught:
        written("a.csv", "question,answer\nq?,a.\n")
    assert str(caught.value) == (
        "a.yaml: there is a file of this name already.\n  Choose another: --out NAME.yaml"
    )
    assert Path("a.yaml").read_text() == "mine"
    assert new(Path("a.csv"), Path("b.yaml")).recipe == "b.yaml"
    assert load_recipe(Path("b.yaml")).recipe.run_dir == "runs/b"


def test_names_that_yaml_would_misread_are_quoted():
    report, recipe = written("o'no: #1.csv", '"ask: #",yes\nhow?,so and so\n')
    assert recipe.data.sources[0].path == "o'no: #1.csv"
    assert recipe.data.sources[0].columns == Columns(instruction="ask: #", output="yes")
    assert report.recipe == "o'no: #1.yaml"


def test_columns_that_the_first_row_lacks_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"ask": "q"}, {"ask": "q", "answer": "an answer"}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert new(path).columns == {"instruction": "ask", "output": "answer"}
