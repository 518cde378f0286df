import csv
import gzip
import itertools
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.cleaning.clean import chunks_of, clean, names_of
from burnish.cleaning.row import clean_chunk
from burnish.errors import DataError
from burnish.recipe import (
    CleanSection,
    Columns,
    ContaminationSettings,
    DataSection,
    PrivacySettings,
    Source,
)
from burnish.run_dir import RunDir

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data"
ROLES = ("user", "assistant")
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the real data sets are not here")


def lines_of(path):
    return lines_of_text(path.read_text("utf-8"))


def lines_of_text(text):
    return [json.loads(line) for line in text.split("\n") if line]


def cleaned(folder, sources, system_prompt=None, **switches):
    """The report, and the lines of conversations, rejected and changes."""
    run = RunDir(folder / "run")
    data = DataSection(sources=sources, system_prompt=system_prompt)
    report = clean(data, CleanSection(**switches), run)
    files = [
        lines_of(run.folder("clean") / f"{name}.jsonl")
        for name in ("conversations", "rejected", "changes")
    ]
    ledger = lines_of(run.folder("clean") / "ledger.jsonl")
    check_conservation(report, *files[:2], ledger)
    return report, *files


def check_conservation(report, kept, rejected, ledger):
    """Every row is in the ledger once, and kept or rejected as it says there."""
    assert report.num_read == report.num_kept + sum(report.num_rejected.values()) == len(ledger)
    assert report.num_kept == len(kept)
    assert report.num_rejected == Counter(line["rule"] for line in rejected)
    assert [line["origin"] for line in ledger if line["kept"]] == [r["origin"] for r in kept]
    assert [(line["origin"], line["rule"]) for line in ledger if not line["kept"]] == [
        (line["origin"], line["rule"]) for line in rejected
    ]
    assert report.faults == Counter(fault for line in ledger for fault in line["faults"])
    left = list(report.rows_left.items())
    assert (left[0], left[-1][1]) == (("read", report.num_read), report.num_kept)
    for (_, before), (step, after) in itertools.pairwise(left):
        assert before == after + report.num_rejected[step]


def write_csv(path, text):
    path.write_text(text, encoding="utf-8")
    return Source(path=str(path))


def test_rows_are_kept_or_rejected_with_file_line_and_reason(tmp_path):
    text = 'instruction,output\n"a\nb",一\nq2,\nq3\n"a\nb",一\nq5,<b>五</b>\n'
    report, kept, rejected, changes = cleaned(tmp_path, [write_csv(tmp_path / "raw.csv", text)])
    assert [line["origin"] for line in kept] == ["raw.csv:2", "raw.csv:8"]
    assert kept[1]["messages"] == [
        {"role": "user", "content": "q5"},
        {"role": "assistant", "content": "五"},
    ]
    assert rejected == [
        {
            "origin": "raw.csv:4",
            "rule": "no_answer",
            "reason": "the answer of this row is empty.",
            "text": '{"instruction": "q2", "output": ""}',
        },
        {
            "origin": "raw.csv:5",
            "rule": "unreadable",
            "reason": "this row has 1 fields, the header 2.",
            "text": "q3",
        },
        {
            "origin": "raw.csv:6",
            "rule": "duplicate",
            "reason": "equal to raw.csv:2, which is kept.",
            "text": "user: a\nb\nassistant: 一",
        },
    ]
    assert changes == [
        {
            "origin": "raw.csv:8",
            "field": "messages[1].content",
            "repairs": ["strip_html"],
            "before": "<b>五</b>",
            "after": "五",
        }
    ]
    assert (report.num_read, report.num_kept) == (5, 2)
    assert report.num_repaired == {"strip_html": 1}


def test_a_file_of_rows_that_can_not_be_read_is_to_be_mended(tmp_path):
    path = tmp_path / "raw.jsonl"
    path.write_text("{'instruction': 'q'}\n" * 2)
    with pytest.raises(DataError) as caught:
        cleaned(tmp_path, [Source(path=str(path))])
    assert str(caught.value) == (
        "raw.jsonl:1: none of 2 rows was kept; this one because this is not JSON: Expecting "
        "property name enclosed in double quotes at column 2.\n"
        "  Mend the file: that row, and the others like it."
    )


def test_a_row_without_an_answer_stops_where_the_recipe_says_so(tmp_path):
    source = write_csv(tmp_path / "raw.csv", "instruction,output\nq,a\nq2,\n")
    with pytest.raises(DataError) as caught:
        cleaned(tmp_path, [source], bad_rows="stop")
    assert str(caught.value) == (
        "raw.csv:3: the answer of this row is empty.\n"
        "  Mend the row, or set clean.bad_rows: reject to go on without it."
    )
    assert list((tmp_path / "run").iterdir()) == []


def test_a_file_without_an_answer_column_is_refused_and_the_right_source_named(tmp_path):
    good = write_csv(tmp_path / "good.csv", "instruction,output\nq,a\n")
    bad = write_csv(tmp_path / "raw.csv", "title,ask\nt,q\n")
    bad = bad.model_copy(update={"columns": Columns(instruction="ask")})
    with pytest.raises(DataError) as caught:
        cleaned(tmp_path, [good, bad])
    assert str(caught.value) == (
        "raw.csv:2: no answer in this row; its columns are title, ask.\n"
        "  Name the answer's column under data.sources[1].columns, for example {output: answer}."
    )


def test_a_file_without_rows_is_refused(tmp_path):
    source = write_csv(tmp_path / "raw.csv", "instruction,output\n")
    with pytest.raises(DataError) as caught:
        cleaned(tmp_path, [source])
    assert str(caught.value) == (
        f"{source.path}: there is no row in this file.\n  Check that it is the right one."
    )


def test_a_file_of_which_nothing_is_kept_is_refused_with_its_first_reason(tmp_path):
    source = write_csv(tmp_path / "raw.csv", "instruction,output\nq,\nq,N/A\n")
    with pytest.raises(DataError) as caught:
        cleaned(tmp_path, [source])
    assert str(caught.value) == (
        "raw.csv:2: none of 2 rows was kept; this one because the answer of this row is empty.\n"
        "  Check the columns under data.sources[0].columns and the rules under clean."
    )


def test_a_broken_surrogate_is_rejected_and_written_down(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"instruction": "q", "output": "\\ud83d"}\n{"instruction": "q", "output": "a"}\n'
    )
    _, kept, rejected, _ = cleaned(tmp_path, [Source(path=str(path))])
    assert [line["origin"] for line in kept] == ["a.jsonl:2"]
    assert rejected[0]["reason"] == "a text holds half a character (a lone surrogate)."
    assert rejected[0]["text"] == '{"instruction": "q", "output": "\ud83d"}'


def test_an_empty_cell_of_pandas_is_no_text(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"instruction": "q", "input": NaN, "output": "a"}]')
    _, kept, _, _ = cleaned(tmp_path, [Source(path=str(path))])
    assert kept[0]["messages"][0] == {"role": "user", "content": "q"}


def test_the_system_prompt_goes_to_conversations_that_bring_none(tmp_path):
    source = write_csv(tmp_path / "a.csv", "system,instruction,output\n,q,a\nown,q,a\n")
    _, kept, _, _ = cleaned(tmp_path, [source], system_prompt="ours")
    assert [line["messages"][0]["content"] for line in kept] == ["ours", "own"]


def test_duplicates_are_found_across_files_and_kept_when_asked(tmp_path):
    sources = [
        write_csv(tmp_path / name, "instruction,output\nq,a\n") for name in ("a.csv", "b.csv")
    ]
    assert cleaned(tmp_path, sources)[2][0]["reason"] == "equal to a.csv:2, which is kept."
    assert cleaned(tmp_path, sources, drop_duplicates=False)[0].num_kept == 2


def test_a_repeated_question_with_another_answer_is_no_duplicate(tmp_path):
    source = write_csv(tmp_path / "a.csv", "instruction,output\nq,a\nq,b\n")
    assert cleaned(tmp_path, [source])[0].num_kept == 2


def test_an_answer_to_a_question_about_html_keeps_its_tags(tmp_path):
    source = write_csv(
        tmp_path / "a.csv", "instruction,output\n写一段HTML,<b>x</b>\n写一段话,<b>x</b>\n"
    )
    kept = cleaned(tmp_path, [source])[1]
    assert [line["messages"][1]["content"] for line in kept] == ["<b>x</b>", "x"]


cell = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.sampled_from(["", "无", "q", "q ", "<b>q</b>", "a，", "\ud83d", "</s>", "\u200b"]),
    st.text(max_size=10),
    st.lists(st.text(max_size=2), max_size=1),
)
row = st.one_of(
    st.fixed_dictionaries({"instruction": cell, "output": cell}, optional={"input": cell}).map(
        json.dumps
    ),
    st.sampled_from(["{", "[]", "3", '{"output": 1, "output": 2}']),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(row, max_size=12))
def test_every_row_is_kept_or_rejected_exactly_once(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    # The first row decides the layout and keeps the file from being refused as empty.
    first = json.dumps({"instruction": "first", "input": "", "output": "answer"})
    (folder / "a.jsonl").write_text("\n".join([first, *rows]) + "\n")
    report, kept, rejected, _ = cleaned(folder, [Source(path=str(folder / "a.jsonl"))])
    assert report.num_read == 1 + len(rows)
    origins = [line["origin"] for line in [*kept, *rejected]]
    assert sorted(origins) == sorted(f"a.jsonl:{n}" for n in range(1, len(rows) + 2))


def test_the_medical_set_is_cleaned_as_its_description_says(tmp_path):
    source = Source(path=str(ROOT / "recipes" / "medical_zh.csv"))
    report, kept, rejected, changes = cleaned(tmp_path, [source], fullwidth_punctuation=True)
    assert (report.num_read, report.num_kept) == (318, 280)
    assert report.num_rejected == {
        "duplicate": 16,  # 12 exact copies and 4 that differ in blanks at the ends
        "no_answer": 8,  # 6 empty and 2 of blanks only
        "truncated": 5,
        "echo": 4,
        "placeholder": 3,
        "no_question": 2,
    }
    lines = {rule: set() for rule in report.num_rejected}
    for line in rejected:
        lines[line["rule"]].add(int(line["origin"].removeprefix("medical_zh.csv:")))
    assert lines["duplicate"] >= {107, 261, 314, 223}
    assert lines["no_answer"] == {7, 64, 65, 81, 201, 284, 278, 280}
    assert lines["truncated"] >= {27, 59, 138}
    assert lines["echo"] >= {19, 33, 272}
    assert lines["placeholder"] == {13, 37, 229}
    assert lines["no_question"] == {34, 159}
    repaired = Counter(name for line in changes for name in line["repairs"])
    assert repaired["strip_html"] == 14  # 10 rows with tags, 4 with entities
    assert repaired["halfwidth_alphanumerics"] == 6
    assert repaired["squeeze_marks"] == 4
    assert repaired["strip_control"] == 2
    assert repaired["strip_special_tokens"] == 2
    assert repaired["repair_unicode"] == 2
    changed = {line["origin"] for line in changes}
    assert not changed & {f"medical_zh.csv:{n}" for n in (108, 131, 167, 127, 226)}
    two_lines = [line for line in kept if line["origin"] == "medical_zh.csv:127"]
    assert two_lines[0]["messages"][-1]["content"].count("\n") == 1


@needs_real_data
def test_the_378_equal_rows_of_the_real_dialogues_are_found(tmp_path):
    path = REAL / "zh-medical-dialogue" / "dialogues.gb18030.csv"
    with path.open(encoding="gb18030", newline="") as file:
        raw = Counter(map(tuple, csv.reader(file)))
    assert raw.total() - 1 == 7644
    assert raw.total() - len(raw) == 378
    columns = Columns(instruction=["title", "ask"], output="answer", system="department")
    source = Source(path=str(path), columns=columns)
    report, *_ = cleaned(
        tmp_path,
        [source],
        drop_truncated=False,
        drop_echo=False,
        drop_near_duplicates=False,
        max_repetition=1.0,
    )
    assert (report.num_read, report.num_rejected) == (7644, {"duplicate": 378})


@needs_real_data
def test_the_ledger_counts_every_fault_of_the_real_dialogues_whichever_rule_decides(tmp_path):
    path = REAL / "zh-medical-dialogue" / "dialogues.gb18030.csv"
    columns = Columns(instruction=["title", "ask"], output="answer", system="department")
    report, *_ = cleaned(tmp_path, [Source(path=str(path), columns=columns)])
    known = {
        "duplicate": 378,
        "halfwidth_punctuation": 1153,
        "truncated": 72,
        "mark_runs": 36,
        "fullwidth_alphanumerics": 18,
        "entities": 2,
        "ideographic_spaces": 2,
    }
    assert {name: report.faults[name] for name in known} == known
    # 4 of the copies go, with their originals, because their answer is cut off.
    assert report.num_rejected["duplicate"] == 374
    assert report.num_rejected["truncated"] == 72


def write_rows(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["instruction", "output"])
        writer.writerows(rows)
    return Source(path=str(path))


def made_up_rows(count):
    """Rows far apart, with a copy, a near-copy and an empty answer among every fifty."""
    draw = random.Random(0)
    rows = []
    for number in range(count):
        text = "".join(draw.choices("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往", k=60))
        kind = number % 50
        if kind == 10:
            rows.append(rows[-3])
        elif kind == 20:
            rows.append((rows[-3][0], f"{rows[-3][1]}谢谢"))
        else:
            rows.append((f"第{number}问", "" if kind == 30 else f"<b>{text}</b>"))
    return rows


def test_near_copies_go_for_the_best_one_which_is_named(tmp_path):
    rows = made_up_rows(100)
    report, _, rejected, _ = cleaned(tmp_path, [write_rows(tmp_path / "a.csv", rows)])
    assert report.num_rejected == {"duplicate": 2, "no_answer": 2, "near_duplicate": 2}
    near = [line for line in rejected if line["rule"] == "near_duplicate"]
    # The longer one stays: the copy with its polite end, in line 22.
    assert near[0]["origin"] == "a.csv:19"
    assert near[0]["reason"].startswith("nearly equal to a.csv:22, which is kept (")


def test_near_copies_stay_when_asked_and_share_a_group(tmp_path):
    rows = made_up_rows(30)
    source = write_rows(tmp_path / "a.csv", rows)
    _, kept, _, _ = cleaned(tmp_path, [source], drop_near_duplicates=False, drop_duplicates=False)
    groups = {line["origin"]: line["groups"] for line in kept}
    assert groups["a.csv:12"] == groups["a.csv:9"]
    assert groups["a.csv:22"] == groups["a.csv:19"]
    assert len({group for names in groups.values() for group in names}) == len(kept) - 2


def test_equal_questions_and_equal_values_of_a_column_share_a_group(tmp_path):
    text = (
        "patient,ward,instruction,output\n"
        "7,A,How are you?,Well enough to go home today.\n"
        "8,A,How are you?,My leg hurts when the rain comes.\n"
        "7,B,What helps against rain?,An umbrella does.\n"
        ",B,And snow?,A hat of wool.\n"
        ",B,And hail?,A roof over the head.\n"
    )
    source = write_csv(tmp_path / "a.csv", text)
    source = source.model_copy(update={"group_by": "patient", "stratify_by": "ward", "weight": 2.0})
    _, kept, _, _ = cleaned(tmp_path, [source])
    first, second, third, fourth, fifth = (line["groups"] for line in kept)
    assert first == second == third
    assert len({*first, *fourth, *fifth}) == 3  # rows without a patient belong to none
    assert [line["stratum"] for line in kept] == ["A", "A", "B", "B", "B"]
    assert {line["weight"] for line in kept} == {2.0}


def test_rows_without_the_column_to_group_by_are_rejected(tmp_path):
    source = write_csv(tmp_path / "a.jsonl", '{"instruction": "q", "output": "a"}\n' * 2)
    source = source.model_copy(update={"group_by": "patient"})
    with pytest.raises(DataError) as caught:
        cleaned(tmp_path, [source])
    assert "there is no column 'patient' in this row" in str(caught.value)


def test_rows_added_behind_the_others_change_no_group(tmp_path):
    rows = made_up_rows(200)
    before = cleaned(tmp_path, [write_rows(tmp_path / "a.csv", rows[:120])])[1]
    after = cleaned(tmp_path, [write_rows(tmp_path / "a.csv", rows)])[1]
    groups = {line["origin"]: line["groups"] for line in after}
    same = [line for line in before if line["origin"] in groups]
    assert len(same) > 100
    assert all(groups[line["origin"]] == line["groups"] for line in same)


@pytest.mark.parametrize("action", ["mask", "drop"])
def test_no_file_of_the_ledger_holds_a_secret_where_it_is_masked_or_dropped(tmp_path, action):
    phone, name = "13812345678", "欧阳娜娜"
    long = "多喝温水，注意休息，清淡饮食，少熬夜，一周后复诊"
    question = "Which nerve supplies the muscle that lifts the upper eyelid of the human eye, "
    call = {"function": {"name": "sms", "arguments": {"to": phone, "姓名": name}}}
    rows = [
        [(f"我叫{name}，１  2", long), ("b", "c")],
        [(f"我叫{name}，１  2", long), ("b", "c")],
        [(f"我叫{name}，１  2", f"{long}。"), ("b", "c")],
        [("q", f"电话{phone}，")],
        [(f"{question} {phone}", "The third.")],
        [(f"我叫{name}，", "")],
        [("What helps?", "Sleep.")],
    ]
    lines = [
        {
            "messages": [
                {"role": r, "content": t} for pair in row for r, t in zip(ROLES, pair, strict=True)
            ]
        }
        for row in rows
    ]
    lines[3]["messages"].insert(1, {"role": "assistant", "content": "", "tool_calls": [call]})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "x.jsonl").write_text(text + f'{{"a": "我叫{name}，\\n{phone}\n', "utf-8")
    (tmp_path / "b.jsonl").write_text(json.dumps({"question": question}) + "\n", "utf-8")
    _, _, rejected, changes = cleaned(
        tmp_path,
        [Source(path=str(tmp_path / "x.jsonl"))],
        privacy={"action": action},
        contamination={"against": [str(tmp_path / "b.jsonl")], "drop": "sure"},
        record_changes="all",
    )
    files = {path.name: path.read_text("utf-8") for path in (tmp_path / "run").rglob("*.json*")}
    assert [n for n, held in files.items() if phone in held or name in held] == []
    assert {"rejected.jsonl", "changes.jsonl", "privacy.jsonl", "contamination.jsonl"} <= set(files)
    assert lines_of_text(files["contamination.jsonl"])[0]["kind"] == "whole"
    assert changes[0]["before"] == "我叫[姓名]，１  2"
    assert {line["rule"] for line in rejected} == (
        {"duplicate", "near_duplicate", "truncated", "contaminated", "no_answer", "unreadable"}
        if action == "mask"
        else {"private", "truncated", "no_answer", "unreadable"}
    )


def test_personal_data_are_counted_masked_or_dropped(tmp_path):
    source = write_csv(
        tmp_path / "a.csv",
        "instruction,output\n怎么联系您？,我的电话是13812345678，随时联系。\n谁？,我。\n",
    )
    report, kept, _, changes = cleaned(tmp_path, [source])
    assert report.personal_data == {"mobile": 1}
    assert "13812345678" in kept[0]["messages"][1]["content"]
    assert changes == []
    listed = lines_of(tmp_path / "run" / "1-clean" / "privacy.jsonl")
    assert listed == [
        {
            "origin": "a.csv:2",
            "field": "messages[1].content",
            "kind": "mobile",
            "text": "13*******78",
        }
    ]
    _, kept, _, changes = cleaned(tmp_path, [source], privacy=PrivacySettings(action="mask"))
    assert kept[0]["messages"][1]["content"] == "我的电话是[手机号]，随时联系。"
    assert changes[0]["repairs"] == ["mask_mobile"]
    report, _, rejected, _ = cleaned(tmp_path, [source], privacy=PrivacySettings(action="drop"))
    assert report.num_rejected == {"private": 1}
    assert rejected[0]["reason"] == "it holds personal data: mobile."
    report, *_ = cleaned(tmp_path, [source], privacy=PrivacySettings(action="off"))
    assert report.personal_data == {}


QUESTION = (
    "Which of the seven made-up moons of the planet Burnish rises first behind the copper hills "
    "in the second month of a dry year?"
)


@pytest.mark.parametrize(("drop", "num_kept"), [("none", 3), ("sure", 2), ("all", 1)])
def test_rows_with_benchmark_items_are_named_and_dropped_when_asked(tmp_path, drop, num_kept):
    (tmp_path / "items.jsonl").write_text(json.dumps({"question": QUESTION}) + "\n")
    half = " ".join(QUESTION.split()[:11])  # 12 of 25 words
    text = f"instruction,output\n{QUESTION},Moss.\n{half}?,Pale.\nWho sings?,The larks.\n"
    settings = ContaminationSettings(against=[str(tmp_path / "items.jsonl")], drop=drop)
    report, *_ = cleaned(tmp_path, [write_csv(tmp_path / "a.csv", text)], contamination=settings)
    assert report.num_kept == num_kept
    assert sum(report.benchmark_items.values()) == 2
    found = lines_of(tmp_path / "run" / "1-clean" / "contamination.jsonl")
    assert [(line["origin"], line["kind"]) for line in found] == [
        ("a.csv:2", "whole"),
        ("a.csv:3", "half"),
    ]
    assert found[0]["item"] == "items.jsonl:1"


@needs_real_data
def test_the_truthfulqa_question_in_the_real_dolly_rows_is_found(tmp_path):
    settings = ContaminationSettings(
        against=["truthfulqa"], benchmarks_folder=str(REAL / "benchmarks")
    )
    source = Source(path=str(REAL / "general" / "dolly_train.json"))
    report, *_ = cleaned(tmp_path, [source], contamination=settings)
    assert report.benchmark_items == {"truthfulqa": 1}
    (found,) = lines_of(tmp_path / "run" / "1-clean" / "contamination.jsonl")
    assert (found["item"], found["kind"]) == ("truthfulqa/generation/validation:677", "whole")


def test_two_files_of_one_name_keep_their_paths_in_origins():
    names = ["a/x.csv", "b/x.csv", "y.csv", "y.csv", "data/", "hf:owner/name"]
    assert names_of([Source(path=name) for name in names]) == [
        "a/x.csv",
        "b/x.csv",
        "y.csv#1",
        "y.csv#2",
        "data",
        "owner/name",
    ]


def test_files_of_a_folder_may_differ_in_layout_and_encoding(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.csv").write_text("instruction,output\n问,答\n", encoding="gb18030")
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    (folder / "b.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    (folder / "c.txt").write_text("A passage for continued pre-training.\n")
    _, kept, _, _ = cleaned(tmp_path, [Source(path=str(folder))])
    assert [line["origin"] for line in kept] == ["data/a.csv:2", "data/b.jsonl:1", "data/c.txt:1"]
    assert [line["messages"][0]["role"] for line in kept] == ["user", "user", "text"]


def test_only_a_sample_of_the_changes_is_written_when_asked(tmp_path):
    rows = [(f"问题{n}", f"<b>{n}</b>") for n in range(150)]
    source = write_rows(tmp_path / "a.csv", rows)
    report, _, _, changes = cleaned(tmp_path, [source], record_changes="sample")
    assert report.num_repaired == {"strip_html": 150}
    assert len(changes) == 100


def files_of(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_what_was_cleaned_before_an_interruption_is_not_cleaned_again(tmp_path, monkeypatch):
    monkeypatch.setattr("burnish.cleaning.clean.CHUNK_ROWS", 40)
    source = write_rows(tmp_path / "a.csv", made_up_rows(200))
    data, section = DataSection(sources=[source]), CleanSection(num_workers=1)
    clean(data, section, RunDir(tmp_path / "whole"))

    numbers = []

    def interrupted(chunk, settings):
        if len(numbers) == 3:
            raise KeyboardInterrupt
        numbers.append(chunk.number)
        return clean_chunk(chunk, settings)

    run = RunDir(tmp_path / "cut")
    monkeypatch.setattr("burnish.cleaning.workers.clean_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clean(data, section, run)
    assert sorted(p.name for p in run.folder("clean").iterdir()) == ["parts"]
    again = []
    monkeypatch.setattr(
        "burnish.cleaning.workers.clean_chunk",
        lambda chunk, settings: again.append(chunk.number) or clean_chunk(chunk, settings),
    )
    clean(data, section, run)
    assert (numbers, again) == ([0, 1, 2], [3, 4])
    assert files_of(run.folder("clean")) == files_of(RunDir(tmp_path / "whole").folder("clean"))
    assert not (run.folder("clean") / "parts").exists()


@needs_real_data
@pytest.mark.parametrize(
    ("name", "num_read", "columns"),
    [
        ("zh-medical-dialogue/sharegpt_1k.jsonl", 1000, None),
        (
            "zh-medical-dialogue/leaked_special_tokens.jsonl",
            450,
            Columns(instruction="query", output="response"),
        ),
        ("zh-medical-knowledge/knowledge.json", 8658, None),
        ("en-medical-qa/medquad_5k.jsonl", 5000, None),
        ("general/alpaca_zh_demo.json", 1000, None),
        ("general/alpaca_en_demo.json", 999, None),
        ("general/identity.json", 91, None),
        ("general/dolly_train.json", 2000, None),
        ("general/sharegpt_zh_1K_format.jsonl", 1000, None),
    ],
)
def test_real_files_are_read_whole_and_mostly_kept(tmp_path, name, num_read, columns):
    path = REAL / name
    report, kept, rejected, _ = cleaned(tmp_path, [Source(path=str(path), columns=columns)])
    assert report.num_read == num_read
    assert report.num_kept > 0.9 * num_read
    origins = [line["origin"] for line in [*kept, *rejected]]
    assert len(set(origins)) == num_read


def test_chunks_are_bounded_by_rows_and_by_characters_and_keep_to_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("burnish.cleaning.clean.CHUNK_ROWS", 3)
    monkeypatch.setattr("burnish.cleaning.clean.CHUNK_CHARS", 100)
    short = write_rows(tmp_path / "a.csv", [("q", "a")] * 4)
    long = write_rows(tmp_path / "b.csv", [("q", "a" * 60)] * 4)
    chunks = list(chunks_of(DataSection(sources=[short, long])))
    assert [(c.number, c.source, len(c.rows)) for c in chunks] == [
        (0, 0, 3),
        (1, 0, 1),
        (2, 1, 2),
        (3, 1, 2),
    ]
    assert {c.layout for c in chunks} == {"alpaca"}


def test_a_column_that_the_first_row_lacks_is_read_where_it_stands(tmp_path):
    rows = [{"q": "q1", "a": "a1"}, {"q": "q2", "a": "a2", "sys": "s", "more": "m"}, {"q": "q3"}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = Columns(instruction="q", output="a", system="sys", input="more")
    source = Source(path=str(path), columns=columns)
    _, kept, rejected, _ = cleaned(tmp_path, [source])
    assert [row["messages"] for row in kept] == [
        [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"}],
        [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "q2", "input": "m"},
            {"role": "assistant", "content": "a2"},
        ],
    ]
    assert [(row["origin"], row["rule"]) for row in rejected] == [("a.jsonl:3", "no_answer")]


def test_a_first_row_that_fits_nothing_is_a_rejected_row_and_no_stop(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1}\n{"instruction": "q", "output": "a"}\n')
    _, kept, rejected, _ = cleaned(tmp_path, [Source(path=str(path))])
    assert [row["origin"] for row in kept] == ["a.jsonl:2"]
    assert [(row["origin"], row["rule"]) for row in rejected] == [("a.jsonl:1", "no_question")]


GOOD = b'{"instruction": "How much?", "output": "A glass of water."}\n'
CSV = b"instruction,output\nHow much?,A glass of water.\n"
CHINESE = [
    f'{{"instruction": "{ask}", "output": "{answer}"}}\n'
    for ask, answer in (
        ("头痛怎么办？", "多休息，多喝水。"),
        ("血压高能吃盐吗？", "每天少于五克。"),
        ("孩子咳嗽一周了", "带他去看医生。"),
        ("伤口多久换药？", "两天一次即可。"),
    )
]
UTF8 = "".join(CHINESE[:2]).encode()
BAD = "unreadable"


def in_row(fields, good=GOOD):
    """A good line, and then one of these fields."""
    return good + b"{" + fields + b"}\n"


def calling(call):
    turns = b'{"role": "user", "content": "How warm?"}, {"role": "assistant", "tool_calls": [%b]}'
    return b'"messages": [' + turns % call + b"]"


TALK = (
    b'{"messages": [{"role": "user", "content": "Hello"}, '
    b'{"role": "assistant", "content": "Good day."}]}\n'
)


@pytest.mark.parametrize(
    ("name", "content", "outcome"),
    [
        ("a.csv", CSV + b'q,"open\nq2,a2\n', "a.csv:3: this row's quotes don't close or don't ma"),
        ("a.csv", CSV + b'q,"a" b\n', "a.csv:3: this row's quotes don't close or don't match"),
        ("a.csv", CSV + b"q\0,ans\0wer\n\0\0\n", {4: BAD}),
        (
            "a.csv",
            CSV + b"one\nq,a,third\n,\n",
            {3: BAD, 4: BAD, 5: "no_question"},
        ),
        ("a.csv", CSV.replace(b",", b";"), "a.csv:2: no answer in this row; its columns are instr"),
        ("a.csv", b"output,output\na,b\n", "a.csv:1: the header has column 'output' twice."),
        ("a.csv", CSV.replace(b"\n", b"\r"), {}),
        ("a.csv", CSV.decode().encode("utf-16-le"), {}),
        ("a.csv", b"\xff\xfe" + CSV.decode().encode("utf-16-le") + b"q", {3: BAD}),
        (
            "a.jsonl",
            b"\xef\xbb\xbf" + GOOD + b"\xef\xbb\xbf" + b'{"output": "a"}\n',
            {2: "no_question"},
        ),
        (
            "a.jsonl",
            "".join(CHINESE[:3]).encode("gb18030") + CHINESE[3].encode(),
            {4: BAD},
        ),
        ("a.jsonl", in_row(b'"instruction": "\xed\xa0\xbd", "output": "a"', UTF8), {3: BAD}),
        ("a.jsonl", in_row(b'"instruction": "q", "output": "\\ud83d"'), {2: BAD}),
        ("a.jsonl", in_row(b'"instruction": "q", "output": "Words.", "\\ud83d": 1'), {}),
        ("a.jsonl", in_row(b'"instruction": "q", "output": "a", "output": "b"'), {2: BAD}),
        ("a.jsonl", in_row(b'"instruction": "q", "output": "a", "x": {"y": 1, "y": 2}'), {2: BAD}),
        ("a.jsonl", in_row(b'"instruction": "q", "output": NaN'), {2: "no_answer"}),
        ("a.jsonl", in_row(b'"instruction": "q", "output": Infinity'), {2: BAD}),
        ("a.jsonl", in_row(b'"instruction": "q", "output": ' + b"9" * 5000), {2: BAD}),
        ("a.jsonl", in_row(b'"instruction": "q", "output": "Words.", "x": NaN'), {}),
        (
            "a.jsonl",
            in_row(b'"instruction": "q", "output": ' + b"[" * 99_999 + b"]" * 99_999),
            {2: BAD},
        ),
        (
            "a.jsonl",
            GOOD + b'null\n1\n"text"\n[]\ntrue\n{}\n',
            {**dict.fromkeys(range(2, 7), BAD), 7: "no_question"},
        ),
        (
            "a.jsonl",
            in_row(calling(b'{"name": "f", "arguments": "{\\"a\\": 1, \\"a\\": 2}"}'), TALK),
            {2: BAD},
        ),
        (
            "a.jsonl",
            in_row(
                calling(b'{"name": "f", "arguments": "' + b"[" * 950 + b"]" * 950 + b'"}'), TALK
            ),
            {2: BAD},
        ),
        ("a.json", b"[" + GOOD + b',\n{"output": 1, "output": 2}]', {3: BAD}),
        ("a.json", b"[" + GOOD[:-9], "a.json:1: this is not JSON"),
        ("a.json", b"[" + GOOD + b"]\n[]", "a.json:2: the list of rows ends here"),
        ("a.json", b"<!DOCTYPE html>", "a.json:1: none of 1 rows was kept"),
        ("a.jsonl.gz", gzip.compress(GOOD, mtime=0)[:-9], "a.jsonl.gz: this archive is broken: "),
        (
            "a.jsonl.gz",
            gzip.compress(GOOD, mtime=0) + b"more",
            "a.jsonl.gz: this archive is broken: Not",
        ),
        ("a.csv", b"", "{folder}/a.csv: there is no row in this file."),
    ],
)
def test_bad_input_is_an_error_or_a_rejected_row_with_its_line(tmp_path, name, content, outcome):
    (tmp_path / name).write_bytes(content)
    sources = [Source(path=str(tmp_path / name))]
    if isinstance(outcome, str):
        with pytest.raises(DataError) as caught:
            cleaned(tmp_path, sources)
        assert str(caught.value).startswith(outcome.format(folder=tmp_path))
        assert not (tmp_path / "run" / "1-clean").exists()
    else:
        report, _, rejected, _ = cleaned(tmp_path, sources)
        assert {line["origin"]: line["rule"] for line in rejected} == {
            f"{name}:{line}": rule for line, rule in outcome.items()
        }
        assert report.num_kept >= 1
