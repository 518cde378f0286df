"""From conversations to saved splits, through the pipeline."""

from __future__ import annotations

import dataclasses
import json
import shutil
from datetime import date

import datasets
import pytest

from burnish.conversation import IGNORE_INDEX, Conversation
from burnish.dataset.prepare import prepare as prepare_stage
from burnish.dataset.split import assign_splits
from burnish.errors import DataError
from burnish.parity.certificate import read_certificate
from burnish.parity.checks import check_base, check_rows, check_run
from burnish.pipeline import run_stage
from burnish.recipe import ModelSection
from burnish.recipe_file import load_recipe
from burnish.rendering import load_tokenizer, render_prompt
from burnish.run_dir import RunDir
from tests.conftest import CHATML, alpaca_rows, byte_tokenizer, tiny_llama, write_recipe
from tests.rendering.shapes import with_reasoning

SPLITS = ("train", "validation", "test")

LONG = " ".join(map(str, range(1000, 1060)))


def recipe_for(folder, model, rows, prepare="{max_length: 128}"):
    text = f"""\
run_dir: {{folder}}/run
model: {{{{name_or_path: {model}}}}}
data: {{{{sources: [{{{{path: {{data}}}}}}]}}}}
prepare: {prepare.replace("{", "{{").replace("}", "}}")}
"""
    return load_recipe(write_recipe(folder, text, rows))


def prepared(loaded):
    run_stage("clean", loaded)
    return run_stage("prepare", loaded), RunDir(loaded.run_dir)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_split_opens_with_datasets_and_holds_tokens_labels_and_words(tiny_recipe):
    report, run = prepared(tiny_recipe)
    assert sum(report["num_examples"].values()) == 40
    assert all(report["num_examples"].values())
    for name in SPLITS:
        data = datasets.load_from_disk(str(run.split(name)))
        assert len(data) == report["num_examples"][name]
        assert sum(map(len, data["input_ids"])) == report["num_tokens"][name]
        for row in data:
            assert len(row["input_ids"]) == len(row["labels"])
            assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
            assert ":" in row["origin"]
            spoken = [label for label in row["labels"] if label != IGNORE_INDEX]
            assert byte_tokenizer().decode(spoken) == row["messages"][1]["content"] + "<|im_end|>"


def test_an_empty_split_opens_too(tmp_path, tiny_model):
    prepare = "{max_length: 128, validation_size: 0, test_size: 0}"
    report, run = prepared(recipe_for(tmp_path, tiny_model, alpaca_rows(4), prepare))
    assert report["num_examples"] == {"train": 4, "validation": 0, "test": 0}
    assert len(datasets.load_from_disk(str(run.split("test")))) == 0


def test_every_conversation_becomes_an_example_or_a_rejection(tmp_path, tiny_model):
    rows = alpaca_rows(20)
    rows[3]["instruction"] = LONG
    rows[7]["output"] = LONG
    report, run = prepared(recipe_for(tmp_path, tiny_model, rows))
    conversations = lines(run.conversations)
    assert len(conversations) == 20
    assert report["num_rejected"] == {"no_answer_left": 1}
    assert sum(report["num_examples"].values()) == 19
    assert report["num_cut"] == 1
    assert report["num_without_stop_token"] == 1
    assert report["longest"] == 128
    (rejected,) = lines(run.folder("prepare") / "rejected.jsonl")
    assert rejected["rule"] == "no_answer_left"
    assert "max_length 128 cuts off the whole answer" in rejected["reason"]
    assert rejected["origin"] == conversations[3]["origin"]
    (cut,) = lines(run.folder("prepare") / "cut.jsonl")
    assert cut["origin"] == conversations[7]["origin"]
    kept = [row["origin"] for name in SPLITS for row in datasets.load_from_disk(run.split(name))]
    assert sorted([*kept, rejected["origin"]]) == sorted(c["origin"] for c in conversations)


def test_a_row_that_is_too_long_can_be_rejected_instead_of_cut(tmp_path, tiny_model):
    rows = alpaca_rows(20)
    rows[7]["output"] = LONG
    prepare = "{max_length: 128, too_long: reject}"
    report, run = prepared(recipe_for(tmp_path, tiny_model, rows, prepare))
    assert report["num_rejected"] == {"too_long": 1}
    assert report["num_cut"] == 0
    (rejected,) = lines(run.folder("prepare") / "rejected.jsonl")
    assert "tokens longer than 128" in rejected["reason"]


def test_where_nothing_is_left_the_first_row_says_why(tmp_path, tiny_model):
    loaded = recipe_for(tmp_path, tiny_model, alpaca_rows(4), "{max_length: 8}")
    run_stage("clean", loaded)
    with pytest.raises(DataError, match="none of 4 conversations is left") as caught:
        run_stage("prepare", loaded)
    assert "rows.json" in caught.value.where
    assert caught.value.remedy == "Raise prepare.max_length."
    assert not RunDir(loaded.run_dir).folder("prepare").exists()


def test_rows_that_the_template_refuses_are_rejected_with_the_templates_reason(tmp_path):
    from tests.rendering.shapes import of_shape

    model = tmp_path / "model"
    tokenizer = of_shape("gemma")
    tiny_llama(len(tokenizer)).save_pretrained(model)
    tokenizer.save_pretrained(model)
    rows = alpaca_rows(10)
    rows[2]["system"] = "Be kind."
    report, run = prepared(recipe_for(tmp_path, model, rows))
    assert report["num_rejected"] == {"chat_template": 1}
    (rejected,) = lines(run.folder("prepare") / "rejected.jsonl")
    assert "roles must alternate" in rejected["reason"]
    assert "Remove the system prompt" in rejected["reason"]


def test_the_tokenizer_is_kept_with_the_template_of_the_run(tmp_path, tiny_model):
    from transformers import AutoTokenizer

    loaded = load_recipe(
        write_recipe(
            tmp_path,
            f"""\
run_dir: {{folder}}/run
model: {{{{name_or_path: {tiny_model}, chat_template: plain_en}}}}
data: {{{{sources: [{{{{path: {{data}}}}}}]}}}}
""",
        )
    )
    report, run = prepared(loaded)
    assert report["template"] == "plain_en"
    kept = AutoTokenizer.from_pretrained(run.tokenizer)
    text = kept.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "### Instruction:\nHi\n\n### Response:\n"


def test_preparing_twice_gives_the_same_rows(tmp_path, tiny_model):
    first = tmp_path / "first"
    second = tmp_path / "second"
    found = []
    for folder in (first, second):
        folder.mkdir()
        _, run = prepared(recipe_for(folder, tiny_model, alpaca_rows(20)))
        data = [datasets.load_from_disk(str(run.split(name))) for name in SPLITS]
        found.append([part["input_ids"][:] for part in data])
    assert found[0] == found[1]


def rows_with(folder, model, prepare, *, weight=1.0):
    folder.mkdir(exist_ok=True)
    loaded = recipe_for(folder, model, alpaca_rows(20), prepare)
    source = loaded.recipe.data.sources[0].model_copy(update={"weight": weight})
    data = loaded.recipe.data.model_copy(update={"sources": [source]})
    recipe = loaded.recipe.model_copy(update={"data": data})
    return prepared(dataclasses.replace(loaded, recipe=recipe))


def test_rows_of_a_weighted_source_are_repeated_in_training_alone(tmp_path, tiny_model):
    prepare = "{max_length: 128, validation_size: 0.2, test_size: 0.2}"
    once, _ = rows_with(tmp_path / "1", tiny_model, prepare)
    twice, run = rows_with(tmp_path / "2", tiny_model, prepare, weight=2.0)
    assert twice["num_examples"] == once["num_examples"] | {
        "train": 2 * once["num_examples"]["train"]
    }
    origins = [row["origin"] for row in datasets.load_from_disk(run.split("train"))]
    assert all(origins.count(origin) == 2 for origin in origins)


def test_rows_that_a_weight_below_one_leaves_out_are_in_the_ledger(tmp_path, tiny_model):
    prepare = "{max_length: 128, validation_size: 0, test_size: 0}"
    report, run = rows_with(tmp_path, tiny_model, prepare, weight=0.5)
    taken = report["num_examples"]["train"]
    assert 0 < taken < 20
    assert report["num_rejected"] == {"not_sampled": 20 - taken}
    rejected = lines(run.folder("prepare") / "rejected.jsonl")
    assert rejected[0]["reason"] == "its source has the weight 0.5, and it was not drawn."


@pytest.mark.parametrize(("setting", "num_kept"), [("off", 2), ("report", 2), ("drop", 1)])
def test_training_rows_that_hold_a_held_out_one_are_listed_or_dropped(
    tmp_path, tiny_model, setting, num_kept
):
    words = " ".join(f"w{n}" for n in range(15))
    conversations = [
        {"messages": [m("user", q), m("assistant", a)], "origin": f"x:{n}", "groups": [group]}
        for n, (q, a, group) in enumerate(
            [("count", words, "g0"), ("and count", words, "g1"), ("sing", "la", "g5")]
        )
    ]
    prepare = f"{{max_length: 256, validation_size: 0, train_test_overlap: '{setting}'}}"
    loaded = recipe_for(tmp_path, tiny_model, alpaca_rows(4), prepare)
    run_stage("clean", loaded)
    run = RunDir(loaded.run_dir)
    run.conversations.write_text("".join(json.dumps(c) + "\n" for c in conversations))
    section = loaded.recipe.prepare
    splits, _ = assign_splits([Conversation.from_dict(c) for c in conversations], section)
    assert [c.origin for c in splits["test"]] == ["x:1"]
    report = prepare_stage(loaded.recipe.model, section, run)
    assert report.num_examples["train"] == num_kept
    found = lines(run.folder("prepare") / "overlap.jsonl")
    assert [line["origin"] for line in found] == ([] if setting == "off" else ["x:0"])
    assert report.num_rejected == ({"overlap": 1} if setting == "drop" else {})


def m(role, content):
    return {"role": role, "content": content}


def test_train_on_last_learns_the_last_answer_and_is_stored_with_the_row(tmp_path, tiny_model):
    turns = [("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two")]
    rows = [
        {"messages": [{"role": role, "content": f"{text} {i}"} for role, text in turns]}
        for i in range(12)
    ]
    _, run = prepared(recipe_for(tmp_path, tiny_model, rows, "{train_on: last, max_length: 200}"))
    (row, *_) = datasets.load_from_disk(str(run.split("train")))
    learned = [label for label in row["labels"] if label != IGNORE_INDEX]
    said = Conversation.from_json(row["conversation"]).answer
    assert byte_tokenizer().decode(learned) == said + "<|im_end|>"
    stored = Conversation.from_json(row["conversation"])
    assert [m.train for m in stored.messages] == [True, False, True, True]


def test_rows_of_which_nothing_is_to_be_learned_are_rejected(tmp_path, tiny_model):
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"q {i}"},
                {"role": "assistant", "content": f"a {i * 7}", "weight": int(i != 3)},
            ]
        }
        for i in range(10)
    ]
    report, run = prepared(recipe_for(tmp_path, tiny_model, rows))
    assert report["num_rejected"] == {"no_answer_left": 1}
    (rejected,) = lines(run.folder("prepare") / "rejected.jsonl")
    assert rejected["text"] == "a 21"
    assert "train: false" in rejected["reason"]


def model_with(tmp_path, tiny_model, tokenizer):
    """The tiny model with another tokenizer's template and tokens."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_answers_that_a_template_writes_otherwise_later_become_examples_of_one_split(
    tmp_path, tiny_model, capsys
):
    thought = "<think>\nso\n</think>\n\n"
    rows = [
        {
            "messages": [
                m("user", f"question {i}"),
                m("assistant", f"{thought}one {i * 7}"),
                m("user", "and?"),
                m("assistant", f"{thought}two {i * 3}"),
            ]
        }
        for i in range(12)
    ]
    model = model_with(tmp_path, tiny_model, with_reasoning())
    report, run = prepared(recipe_for(tmp_path, model, rows, "{max_length: 300}"))
    assert sum(report["num_examples"].values()) == 24
    assert report["num_rejected"] == {}
    said = " ".join(capsys.readouterr().err.split())
    assert "12 conversations became an example for each answer" in said
    tokenizer = load_tokenizer(run.tokenizer, ModelSection())
    origins = []
    for name in SPLITS:
        rows = datasets.load_from_disk(str(run.split(name)))
        check_rows(read_certificate(run), rows, tokenizer, name)
        origins.append({row["origin"] for row in rows})
        for row in rows:
            learned = [label for label in row["labels"] if label != IGNORE_INDEX]
            assert tokenizer.decode(learned) == row["messages"][-1]["content"] + "<|im_end|>"
    assert sum(map(len, origins)) == 12


def test_a_template_that_writes_the_date_writes_the_day_of_prepare_for_good(
    tmp_path, tiny_model, monkeypatch
):
    class Monday(date):
        @classmethod
        def today(cls):
            return cls(2026, 3, 9)

    tokenizer = byte_tokenizer("{{ strftime_now('%d %b %Y') + '\n' }}" + CHATML)
    loaded = recipe_for(tmp_path, model_with(tmp_path, tiny_model, tokenizer), alpaca_rows(20))
    monkeypatch.setattr("burnish.dataset.prepare.date", Monday)
    report, run = prepared(loaded)
    assert report["findings"] == {"fixed_date": 0}
    (row, *_) = datasets.load_from_disk(str(run.split("train")))
    saved = load_tokenizer(run.tokenizer, loaded.recipe.model)
    question = Conversation.from_json(row["conversation"]).question
    prompt = render_prompt(question, saved)
    assert saved.decode(prompt).startswith("09 Mar 2026\n<|im_start|>user\n")
    assert row["input_ids"][: len(prompt)] == prompt
    certificate = check_run(loaded.recipe.model, run)
    check_base(certificate, loaded.recipe.model, tmp_path / "model")
