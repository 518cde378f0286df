import json
from pathlib import Path

import huggingface_hub
import pytest

from burnish.contamination.index import Item
from burnish.contamination.items import BENCHMARKS, PARQUET, item_of, load_items
from burnish.conversation import BadRow, Record
from burnish.errors import DataError, RecipeError
from burnish.recipe import ContaminationSettings


def read(path):
    """A reader of JSON lines that takes every file for one."""
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), start=1):
        origin = f"{Path(path).name}:{number}"
        yield Record(json.loads(line), origin) if line[0] == "{" else BadRow(origin, "Bad.", line)


def settings(*names, folder=None):
    return ContaminationSettings(against=list(names), benchmarks_folder=folder and str(folder))


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")


def mmlu(question):
    return {"question": question, "choices": ["yes", "no"], "answer": 0}


def test_every_benchmark_of_the_help_is_known():
    text = ContaminationSettings.model_fields["against"].description
    assert list(BENCHMARKS) == ["mmlu", "truthfulqa", "ceval", "cmmlu", "gsm8k"]
    assert ", ".join(BENCHMARKS) in " ".join(text.split())


def test_a_benchmark_is_read_from_a_folder_test_and_validation_but_no_examples(tmp_path):
    write(tmp_path / "cais/mmlu/virology/test.jsonl", mmlu("V one?"), mmlu("V two?"))
    write(tmp_path / "cais/mmlu/anatomy/validation.jsonl", mmlu("A three?"))
    write(tmp_path / "cais/mmlu/anatomy/test.jsonl", mmlu("A one?"))
    write(tmp_path / "cais/mmlu/anatomy/dev.jsonl", mmlu("An example?"))
    write(tmp_path / "cais/mmlu/all/test.jsonl", mmlu("A one?"))
    (tmp_path / "cais/mmlu/README.md").write_text("about")
    assert load_items(settings("mmlu", folder=tmp_path), read) == [
        Item("mmlu", "mmlu/anatomy/test:1", "A one?", "yes\nno"),
        Item("mmlu", "mmlu/anatomy/validation:1", "A three?", "yes\nno"),
        Item("mmlu", "mmlu/virology/test:1", "V one?", "yes\nno"),
        Item("mmlu", "mmlu/virology/test:2", "V two?", "yes\nno"),
    ]


@pytest.mark.parametrize("name", ["test.jsonl", "test-00000-of-00001.jsonl", "test/0000.jsonl"])
def test_all_three_layouts_of_the_hub_are_read(tmp_path, name):
    write(tmp_path / "openai/gsm8k/main" / name, {"question": "How many?", "answer": "2"})
    write(tmp_path / "openai/gsm8k/socratic" / name, {"question": "How many?", "answer": "2"})
    assert load_items(settings("gsm8k", folder=tmp_path), read) == [
        Item("gsm8k", "gsm8k/main/test:1", "How many?")
    ]


def test_a_folder_without_the_benchmark_is_named(tmp_path):
    with pytest.raises(DataError) as caught:
        load_items(settings("gsm8k", folder=tmp_path), read)
    assert str(caught.value) == (
        f"{tmp_path}/openai/gsm8k: there are no test questions of gsm8k here (looked for "
        f"{tmp_path}/openai/gsm8k/<subject>/test.*).\n"
        "  Name the folder that holds cais/mmlu and the like under "
        "clean.contamination.benchmarks_folder, or remove it to fetch from the hub."
    )


def test_without_a_folder_the_questions_come_from_the_hub(tmp_path, monkeypatch, capsys):
    write(tmp_path / "agronomy/test/0000.parquet", {"Question": "谁？", "A": "甲", "B": "乙"})
    asked = []

    def snapshot_download(name, **settings):
        asked.append((name, settings))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    items = load_items(settings("cmmlu"), read)
    assert items == [Item("cmmlu", "cmmlu/agronomy/test:1", "谁？", "甲\n乙")]
    ((name, how),) = asked
    assert (name, how["repo_type"], how["revision"]) == ("haonan-li/cmmlu", "dataset", PARQUET)
    assert how["allow_patterns"] == [
        "*/test/*.parquet", "*/validation/*.parquet", "*/val/*.parquet",
    ]  # fmt: skip
    assert "haonan-li/cmmlu" in capsys.readouterr().err


def test_a_hub_out_of_reach_is_told(monkeypatch):
    def snapshot_download(name, **settings):
        raise ConnectionError("no route\nto the host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(DataError) as caught:
        load_items(settings("gsm8k"), read)
    assert str(caught.value) == (
        "openai/gsm8k: it can't be fetched from the Hugging Face hub (no route).\n"
        "  Check the network; in China set HF_ENDPOINT to a mirror, or name a folder that holds "
        "the benchmarks under clean.contamination.benchmarks_folder."
    )


def test_an_unknown_name_is_refused_with_a_guess():
    with pytest.raises(RecipeError) as caught:
        load_items(settings("mmul"), read)
    assert str(caught.value) == (
        "clean.contamination.against: there is no benchmark 'mmul'; those known are mmlu, "
        "truthfulqa, ceval, cmmlu, gsm8k.\n"
        "  Did you mean mmlu? A file of items needs an ending, such as items.jsonl."
    )


def test_any_file_gives_items_under_its_name_and_lines(tmp_path):
    write(tmp_path / "exam.jsonl", {"question": "One?"}, {"problem": "Two?"})
    assert load_items(settings(str(tmp_path / "exam.jsonl")), read) == [
        Item("exam.jsonl", "exam.jsonl:1", "One?"),
        Item("exam.jsonl", "exam.jsonl:2", "Two?"),
    ]


def test_each_line_of_a_text_file_is_an_item():
    def read_text(path):
        yield Record({"text": "One?\n\nTwo?"}, "exam.txt:1")

    assert load_items(settings("exam.txt"), read_text) == [
        Item("exam.txt", "exam.txt:1+1", "One?"),
        Item("exam.txt", "exam.txt:1+3", "Two?"),
    ]


def test_a_row_that_cant_be_read_stops_the_work(tmp_path):
    (tmp_path / "exam.jsonl").write_text('{"question": "One?"}\n[]')
    with pytest.raises(DataError, match=r"exam.jsonl:2: Bad.\n  Mend this row of the benchmark."):
        load_items(settings(str(tmp_path / "exam.jsonl")), read)


@pytest.mark.parametrize(
    ("fields", "question", "choices"),
    [
        ({"Question": "Q?", "A": "x", "B": 2, "C": None, "Answer": "A"}, "Q?", "x\n2"),
        ({"question": "Q?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}}, "Q?", "x\ny"),
        ({"question": "Q?", "options": {"A": "x", "B": "y"}}, "Q?", "x\ny"),
        ({"question": "Q?", "choices": []}, "Q?", ""),
        ({"instruction": "Do", "input": "this", "output": "done"}, "Do\nthis", ""),
        ({"instruction": "", "input": "this", "output": "done"}, "this", ""),
        ({"query": "Q?", "response": "R"}, "Q?", ""),
        ({"text": "Q?"}, "Q?", ""),
        (
            {
                "messages": [
                    {"role": "system", "content": "S"},
                    {"role": "user", "content": "Q?"},
                    {"role": "assistant", "content": "R"},
                ]
            },
            "Q?",
            "",
        ),
        ({"conversations": [{"from": "human", "value": "Q?"}, "broken"]}, "Q?", ""),
        ({"what": "Q?", "number": 3, "who": "me"}, "Q?\nme", ""),
        ({"number": 3}, "", ""),
    ],
)
def test_the_question_of_a_row_is_found_by_its_columns(fields, question, choices):
    assert item_of(fields, "x", "x:1") == Item("x", "x:1", question, choices)
