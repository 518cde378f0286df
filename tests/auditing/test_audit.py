"""What an audit says of files whose faults are known, and that it changes nothing."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from burnish.auditing.audit import audit
from burnish.auditing.report import Change
from burnish.errors import DataError, RecipeError, RunError
from burnish.pipeline import run_stage
from tests.cli.commands import burnish, fails
from tests.conftest import write_recipe

REAL = Path(__file__).parents[2].parent / "shared" / "data"
DIALOGUES = REAL / "zh-medical-dialogue" / "dialogues.gb18030.csv"

NO_MODEL = ["model.name_or_path=./nowhere"]


def tree(folder):
    """Every file below a folder with its bytes and times."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def test_every_fault_of_a_small_file_is_counted_and_shown_with_its_line(faulty):
    report = audit(str(faulty), NO_MODEL)
    assert (report.num_read, report.num_kept) == (12, 6)
    assert {k: v for k, v in report.faults.items() if v} == {
        "halfwidth_punctuation": 1,
        "mark_runs": 1,
        "fullwidth_alphanumerics": 1,
        "html_tags": 1,
        "entities": 1,
    }
    assert report.examples.faults == {
        "halfwidth_punctuation": {"faulty.csv:4": "先量体温,再看医生。。。。"},
        "mark_runs": {"faulty.csv:4": "先量体温,再看医生。。。。"},
        "fullwidth_alphanumerics": {"faulty.csv:6": "收缩压９０到１４０。"},
        "html_tags": {"faulty.csv:9": "<b>失眠</b>怎么办？"},
        "entities": {"faulty.csv:9": "睡前少看手机&nbsp;也少喝茶。"},
    }


def test_every_rule_is_counted_and_shown_with_its_line(faulty):
    report = audit(str(faulty), NO_MODEL)
    assert {k: v for k, v in report.broken_rules.items() if v} == {
        "unreadable": 1,
        "no_answer": 1,
        "placeholder": 1,
        "truncated": 1,
    }
    assert report.examples.rules == {
        "unreadable": {"faulty.csv:11": "this row has 3 fields, the header 2. 多了一列,答案,是的"},
        "no_answer": {
            "faulty.csv:10": 'the answer of this row is empty. {"问题": "牙痛怎么办？", "答案": ""}'
        },
        "placeholder": {"faulty.csv:8": "the answer '无' only stands for one. 无"},
        "truncated": {
            "faulty.csv:5": "the answer ends in '，', so it seems cut off. 先喝水，再看看，"
        },
    }


def test_rows_are_conserved_from_step_to_step(faulty):
    report = audit(str(faulty), NO_MODEL)
    assert report.rows_left == {
        "read": 12,
        "unreadable": 11,
        "no_answer": 10,
        "placeholder": 9,
        "truncated": 8,
        "duplicate": 7,
        "near_duplicate": 6,
    }
    assert report.num_read == report.num_kept + sum(report.num_dropped.values())


def test_repairs_are_counted_and_shown_before_and_after(faulty):
    report = audit(str(faulty), NO_MODEL)
    assert {k: v for k, v in report.repairs.items() if v} == {
        "strip_html": 1,
        "halfwidth_alphanumerics": 1,
        "squeeze_marks": 1,
        "squeeze_spaces": 1,  # the blank that &nbsp; became
    }
    shown = report.examples.repairs
    assert shown["squeeze_marks"] == {
        "faulty.csv:4": Change(before="先量体温,再看医生。。。。", after="先量体温,再看医生。")
    }
    assert shown["halfwidth_alphanumerics"]["faulty.csv:6"].after == "收缩压90到140。"
    assert shown["strip_html"]["faulty.csv:9"] == Change(
        before="<b>失眠</b>怎么办？", after="失眠怎么办？"
    )


def test_what_settings_that_are_off_would_do_is_counted(faulty):
    report = audit(str(faulty), NO_MODEL)
    assert report.switched_off == {"fullwidth_punctuation": 1, "drop_special_tokens": 0}
    assert report.examples.switched_off == {
        "fullwidth_punctuation": {
            "faulty.csv:4": Change(before="先量体温,再看医生。", after="先量体温，再看医生。")
        }
    }
    off = [f"clean.{name}=false" for name in ("drop_truncated", "squeeze_marks")]
    report = audit(str(faulty), [*NO_MODEL, *off])
    assert report.switched_off["drop_truncated"] == report.switched_off["squeeze_marks"] == 1
    assert report.num_dropped.get("truncated") is None
    assert report.examples.switched_off["drop_truncated"] == {
        "faulty.csv:5": "the answer ends in '，', so it seems cut off. 先喝水，再看看，"
    }


def test_duplicates_are_shown_in_pairs(faulty):
    report = audit(str(faulty), NO_MODEL)
    assert report.duplicates == {"exact": 1, "near": 1}
    exact = report.examples.duplicates["exact"]["faulty.csv:3"]
    assert (exact.repeats, exact.similarity) == ("faulty.csv:2", 1.0)
    assert exact.text == exact.repeated_text == "user: 头痛怎么办？⏎assistant: 多休息，多喝水。"
    near = report.examples.duplicates["near"]["faulty.csv:13"]
    assert near.repeats == "faulty.csv:12"
    assert 0.6 <= near.similarity < 1
    assert (near.text != near.repeated_text) == ("多饮" in near.text)


def test_duplicates_are_found_where_nothing_drops_them_too(faulty):
    off = ["clean.drop_duplicates=false", "clean.drop_near_duplicates=false"]
    report = audit(str(faulty), [*NO_MODEL, *off])
    with_drops = audit(str(faulty), NO_MODEL)
    assert report.num_kept == 8
    assert report.duplicates == {"exact": 1, "near": 1}
    assert report.examples.duplicates == with_drops.examples.duplicates
    assert report.switched_off["drop_duplicates"] == 1
    assert report.switched_off["drop_near_duplicates"] == 1


def test_personal_data_is_counted_and_mostly_hidden_wherever_the_row_is_shown(faulty):
    report = audit(str(faulty), [*NO_MODEL, "clean.min_answer_chars=100"])
    assert report.personal_data == {"mobile": 1}
    assert report.examples.personal_data == {"mobile": {"faulty.csv:7": "13*******78"}}
    assert "13812345678" not in report.model_dump_json()
    assert report.examples.rules["too_short"]["faulty.csv:4"].endswith("再看医生。")


@pytest.mark.parametrize("action", ["mask", "drop", "off"])
def test_personal_data_is_looked_for_as_the_recipe_asks(faulty, action):
    report = audit(str(faulty), [*NO_MODEL, f"clean.privacy.action={action}"])
    assert report.personal_data == ({} if action == "off" else {"mobile": 1})
    assert report.num_dropped.get("private") == (1 if action == "drop" else None)


def test_lengths_are_those_of_the_rows_that_are_kept(tmp_path, tiny_model):
    recipe = write_recipe(
        tmp_path,
        f"model: {{{{name_or_path: {tiny_model}}}}}\n"
        "data: {{sources: [{{path: {data}}}]}}\n",
        [{"instruction": "Why?", "output": "a" * n} for n in (10, 20, 30)]
        + [{"instruction": "Why?", "output": "b" * 400 + ","}],
    )
    off = ["clean.max_repetition=1", "clean.drop_near_duplicates=false"]
    report = audit(str(recipe), ["prepare.max_length=50", *off])
    lengths = report.lengths
    assert report.num_kept == 3
    assert lengths.characters["answer"] == dict(p50=20, p90=30, p95=30, p99=30, max=30)
    assert set(lengths.characters["question"].values()) == {4}
    # ChatML takes 19 tokens around a question of a token a byte, and one behind the answer.
    assert lengths.tokens["question"]["max"] == 23
    assert lengths.tokens["answer"]["p50"] == 21
    assert lengths.tokens["conversation"]["max"] == 54
    assert lengths.advice == (
        "prepare.max_length: 56 covers 99 % of the rows; 50, as set, covers 66.67%."
    )


def test_without_a_tokenizer_lengths_are_in_characters_only_and_that_is_said(faulty, capsys):
    report = audit(str(faulty), model="./nowhere")
    assert report.lengths.characters["question"]["max"] == 7
    assert report.lengths.tokens == {}
    assert report.lengths.advice == ""
    assert report.lengths.tokens_of.startswith(
        "not counted, because the tokenizer can't be loaded: ./nowhere: there is no such folder"
    )
    assert "no lengths in tokens: ./nowhere: there is no such folder" in capsys.readouterr().err


def test_languages_are_counted_by_the_answer(tmp_path):
    data = tmp_path / "many.jsonl"
    answers = ["多休息。", "喝水。", "Rest.", "休んでください。", "42"]
    rows = ({"instruction": f"{i}?", "output": a} for i, a in enumerate(answers))
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert audit(str(data), NO_MODEL).languages == {"zh": 2, "en": 1, "ja": 1, "none": 1}


def test_a_recipe_is_audited_with_its_settings_and_nothing_on_disk_changes(tmp_path, faulty):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"run_dir: {tmp_path}/run\nmodel: {{name_or_path: ./nowhere}}\n"
        f"data: {{sources: [{{path: {faulty}, columns: {{instruction: 问题, output: 答案}}}}]}}\n"
        "clean: {drop_duplicates: false, fullwidth_punctuation: true}\n",
        encoding="utf-8",
    )
    before = tree(tmp_path)
    report = audit(str(recipe))
    assert tree(tmp_path) == before
    assert not (tmp_path / "run").exists()
    assert report.repairs["fullwidth_punctuation"] == 1
    assert report.switched_off == {"drop_special_tokens": 0, "drop_duplicates": 1}
    assert report.sources["faulty.csv"].model_dump() == {
        "layout": "columns",
        "columns": {"instruction": "问题", "output": "答案"},
        "num_rows": 12,
    }


def test_a_run_folder_is_audited_and_left_as_it_was(tiny_recipe):
    run_stage("clean", tiny_recipe)
    before = tree(tiny_recipe.run_dir)
    report = audit(str(tiny_recipe.run_dir))
    assert (report.num_read, report.num_kept) == (40, 40)
    assert tree(tiny_recipe.run_dir) == before


def test_rows_are_counted_by_source(tmp_path, faulty):
    other = tmp_path / "faulty.csv.jsonl"
    other.write_text('{"instruction": "a", "output": "b"}\n' * 2)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "data:\n  sources:\n"
        f"    - {{path: {faulty}, columns: {{instruction: 问题, output: 答案}}, limit: 3}}\n"
        f"    - {{path: {other}}}\n"
    )
    looked = audit(str(recipe), NO_MODEL).sources
    assert {name: (s.layout, s.num_rows) for name, s in looked.items()} == {
        "faulty.csv": ("columns", 3),
        "faulty.csv.jsonl": ("alpaca", 2),
    }


def test_benchmark_items_are_found_where_the_recipe_asks(tmp_path):
    question = "Which organ pumps the blood through all the vessels of a human body every day"
    (tmp_path / "exam.jsonl").write_text(json.dumps({"question": question}) + "\n")
    data = tmp_path / "rows.jsonl"
    rows = [{"instruction": f"{question}?", "output": "The heart."}]
    rows += [{"instruction": f"What is {i} plus {i}?", "output": f"It is {2 * i}."} for i in "123"]
    data.write_text("\n".join(map(json.dumps, rows)))
    against = f"clean.contamination.against=[{tmp_path / 'exam.jsonl'}]"
    report = audit(str(data), [*NO_MODEL, against])
    assert list(report.benchmark_items.values()) == [1]
    ((origin, shown),) = next(iter(report.examples.benchmark_items.values())).items()
    assert origin == "rows.jsonl:1"
    assert "which organ pumps the blood" in shown


def test_a_page_is_written_beside_the_report(faulty, tmp_path):
    page = tmp_path / "out" / "page.html"
    report = audit(str(faulty), NO_MODEL, page=page)
    assert report.page == str(page)
    text = page.read_text(encoding="utf-8")
    HTMLParser().feed(text)
    assert "先量体温" in text
    audit(str(faulty), NO_MODEL, page=page)  # it may be written again


def test_a_page_never_takes_the_place_of_what_is_looked_at(faulty, tmp_path):
    before = tree(tmp_path)
    with pytest.raises(RunError, match="take the place of what is looked at"):
        audit(str(faulty), NO_MODEL, page=faulty)
    with pytest.raises(RunError, match="this is a folder"):
        audit(str(faulty), NO_MODEL, page=tmp_path)
    assert tree(tmp_path) == before


def test_a_missing_file_and_a_missing_recipe_are_errors(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        audit(str(tmp_path / "no.csv"))
    with pytest.raises(RecipeError, match="there is no such recipe"):
        audit(str(tmp_path / "no.yaml"))


def test_a_file_without_rows_is_an_error(tmp_path):
    (tmp_path / "empty.csv").write_text("instruction,output\n")
    with pytest.raises(DataError, match="there is no readable row"):
        audit(str(tmp_path / "empty.csv"))


def test_a_file_of_which_nothing_is_kept_is_still_reported(tmp_path):
    (tmp_path / "bad.csv").write_text("instruction,output\nWhy?,N/A\nHow?,\n")
    report = audit(str(tmp_path / "bad.csv"), NO_MODEL, page=tmp_path / "page.html")
    assert (report.num_read, report.num_kept) == (2, 0)
    assert report.lengths.characters == {}


def test_the_whole_report_is_json(faulty):
    dumped = audit(str(faulty), NO_MODEL).model_dump()
    assert json.loads(json.dumps(dumped)) == dumped


def test_the_command_prints_the_report_and_with_json_one_object(faulty, tmp_path):
    printed = burnish("audit", faulty.name, "--model", "./nowhere", folder=tmp_path)
    assert printed.returncode == 0, printed.stderr
    for line in ("num_read: 12", "  truncated: 8", "      faulty.csv:6: 收缩压９０到１４０。"):
        assert f"{line}\n" in printed.stdout
    arguments = ["--model", "./nowhere", "--html", "p.html", "--json"]
    done = burnish("audit", faulty.name, *arguments, folder=tmp_path)
    report = json.loads(done.stdout)
    assert (report["num_read"], report["num_kept"], report["page"]) == (12, 6, "p.html")
    assert (tmp_path / "p.html").is_file()


def test_the_command_answers_errors_with_one_message(faulty, tmp_path):
    assert "no.csv: there is no such file" in fails("audit", "no.csv", folder=tmp_path)
    wrong = ["--set", "clean.max_repetitions=1"]
    message = fails("audit", faulty.name, *wrong, folder=tmp_path)
    assert "there is no such setting. Did you mean max_repetition?" in message


@pytest.mark.skipif(not DIALOGUES.is_file(), reason="the data set is not here")
def test_the_known_faults_of_real_dialogues_are_found_with_their_lines():
    columns = ["instruction=[title, ask]", "output=answer"]
    report = audit(str(DIALOGUES), [*NO_MODEL, *(f"data.sources[0].columns.{c}" for c in columns)])
    assert report.num_read == 7644 == report.num_kept + sum(report.num_dropped.values())
    assert report.duplicates["exact"] == 378
    assert report.broken_rules["truncated"] == 72
    known = {
        "halfwidth_punctuation": 1153,
        "mark_runs": 36,
        "fullwidth_alphanumerics": 18,
        "entities": 2,
        "ideographic_spaces": 2,
    }
    assert {name: report.faults[name] for name in known} == known
    examples = [
        *(report.examples.faults[name] for name in known),
        report.examples.rules["truncated"],
        report.examples.duplicates["exact"],
    ]
    assert [len(rows) for rows in examples] == [5, 5, 5, 2, 2, 5, 5]
    assert all(o.startswith("dialogues.gb18030.csv:") for rows in examples for o in rows)


def test_the_encoding_of_a_file_is_said_once(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_bytes("instruction,output\n头痛怎么办呢？,多休息，多喝水。\n".encode("gb18030"))
    audit(str(path), model=str(tmp_path / "nowhere"))
    assert capsys.readouterr().err.count("read as gb18030") == 1
