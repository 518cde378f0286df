"""Every planted defect is found and named with its remedy, and clean sets have none."""

from __future__ import annotations

import numpy as np
import pytest

from burnish.conversation import IGNORE_INDEX
from burnish.labels.findings import FINDINGS, Table, cut
from tests.conftest import byte_tokenizer
from tests.labels.sets import (
    END,
    NUM_ROWS,
    PAD,
    START,
    audited,
    clean_sets,
    found,
    masked,
    model_files,
    others,
    plain_rows,
    rendered,
    with_tokens,
)
from tests.rendering.shapes import (
    SHAPES,
    command_r,
    glm_4,
    ids_of,
    of_shape,
    strips_reasoning,
    talk,
    tokenizer_with,
    with_reasoning,
)

CLEAN = sorted(clean_sets())


@pytest.mark.parametrize("name", CLEAN)
@pytest.mark.parametrize("made_by", ["burnish", "others"])
def test_a_clean_set_has_no_findings(name, made_by, tmp_path):
    tokenizer, rows = clean_sets()[name]
    if made_by == "others":
        rows = others(rows)
    assert found(rows, tokenizer, model_files(tmp_path)) == {}


def test_every_finding_has_one_way_to_be_told_and_a_remedy():
    for kind in FINDINGS.values():
        assert sum(way is not None for way in (kind.tokens, kind.rows, kind.table)) == 1
        assert kind.words
        assert kind.remedy


def test_a_stop_token_that_is_not_trained_is_an_error_with_its_rows():
    rows = plain_rows()
    rows[2], rows[5] = masked(rows[2], -1), masked(rows[5], -1)
    (finding,) = audited(rows).findings
    assert (finding.name, finding.level, finding.count) == ("masked_stop_token", "error", 2)
    assert finding.first == ["data.jsonl:3", "data.jsonl:6"]
    assert "'<|im_end|>' 2 times" in finding.what
    assert "train_on_eos: turn" in finding.remedy


def test_a_stop_token_masked_in_an_early_turn_alone_is_found():
    tokenizer = byte_tokenizer()
    (row,) = rendered([talk("a", "one", "b", "two")], tokenizer)
    first_end = row["labels"].index(END)
    assert found([masked(row, first_end)]) == {"masked_stop_token": ("error", 1)}


def test_pad_equal_to_eos_with_eos_masked_is_found_as_such():
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = "<|im_end|>"
    rows = [masked(row, -1) for row in plain_rows()]
    assert found(others(rows), tokenizer) == {"stop_token_masked_as_padding": ("error", 10)}
    (finding,) = audited(others(rows), tokenizer).findings
    assert "another pad_token" in finding.remedy


def test_pad_equal_to_eos_is_fine_where_masking_goes_by_place():
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = "<|im_end|>"
    rows = others(plain_rows())
    assert found(rows, tokenizer) == {}
    padded = [
        {
            "input_ids": [*row["input_ids"], END, END],
            "labels": [*row["labels"], IGNORE_INDEX, IGNORE_INDEX],
        }
        for row in rows
    ]
    assert found(padded, tokenizer) == {}


def test_answers_that_end_with_another_control_token_are_found():
    rows = plain_rows()
    for row in rows[:4]:
        row["input_ids"][-1] = row["labels"][-1] = START
    (finding,) = audited(rows).findings
    assert (finding.name, finding.level, finding.count) == ("wrong_stop_token", "error", 4)
    assert "'<|im_start|>' 4 times" in finding.what
    assert "own chat template" in finding.remedy


def test_answers_without_any_stop_token_are_an_error_if_most_are_so():
    def without_end(row):
        return row | {"input_ids": row["input_ids"][:-1], "labels": row["labels"][:-1]}

    rows = plain_rows()
    few = [without_end(row) if i < 5 else row for i, row in enumerate(rows)]
    assert found(few) == {"no_stop_token": ("warning", 5)}
    rows = [without_end(row) for row in rows]
    assert found(rows) == {"no_stop_token": ("error", 10)}
    (finding,) = audited(rows).findings
    assert finding.remedy == "model.end_of_answer: eos"


def test_a_template_that_ends_early_answers_alone_is_a_warning_as_long_as_most_are_ended():
    tokenizer = glm_4()
    several = [talk("a", "one", "b", "two", "c", "three") for _ in range(6)]
    assert found(rendered(several, tokenizer), tokenizer) == {"no_stop_token": ("warning", 6)}
    single = [talk("a", "one") for _ in range(6)]
    assert found(rendered(single, tokenizer), tokenizer) == {"no_stop_token": ("error", 6)}


def test_rows_without_a_token_to_learn_are_an_error():
    rows = others(plain_rows())
    for row in rows[3:6]:
        row["labels"] = [IGNORE_INDEX] * len(row["labels"])
    assert found(rows) == {"nothing_supervised": ("error", 3)}
    nothing = [row | {"labels": [IGNORE_INDEX] * len(row["labels"])} for row in rows]
    assert found(nothing) == {"nothing_supervised": ("error", NUM_ROWS)}


def test_empty_rows_have_nothing_to_learn():
    rows = [*others(plain_rows()), {"input_ids": [], "labels": []}]
    assert found(rows) == {"nothing_supervised": ("error", 1)}
    empty = rows[-1]
    assert found([empty, *rows, empty]) == {"nothing_supervised": ("error", 3)}


def test_a_second_bos_is_an_error():
    tokenizer = of_shape("llama_3")
    talks = [talk("hi", f"there {i}") for i in range(NUM_ROWS)]
    rows = rendered(talks, tokenizer)
    assert found(rows, tokenizer) == {}
    rows[0] = with_tokens(rows[0], 0, [tokenizer.bos_token_id])
    assert found(rows, tokenizer) == {"double_bos": ("error", 1)}
    assert "add_special_tokens=False" in audited(rows, tokenizer).findings[0].remedy


def test_cut_answers_are_a_warning_with_the_length_that_would_do():
    talks = [talk("q", "x" * (100 if i < 3 else 10)) for i in range(NUM_ROWS)]
    tokenizer = byte_tokenizer()
    rows = rendered(talks, tokenizer, max_length=80)
    whole = len(rendered(talks[:1], tokenizer)[0]["input_ids"])
    (finding,) = audited(rows).findings
    assert (finding.name, finding.level, finding.count) == ("cut_answers", "warning", 3)
    assert finding.remedy == f"prepare.max_length: {-(-whole // 8) * 8}"
    report = audited(rows)
    assert (report.num_cut, report.cut_tokens["max"]) == (3, whole - 80)
    assert found(others(rows)) == {"cut_answers": ("warning", 3)}


def test_labels_shifted_by_one_are_found_to_either_side():
    for move in (
        lambda labels: [*labels[1:], IGNORE_INDEX],
        lambda labels: [IGNORE_INDEX, *labels[:-1]],
    ):
        rows = [row | {"labels": move(row["labels"])} for row in others(plain_rows())]
        assert found(rows) == {"shifted_labels": ("error", NUM_ROWS)}
    assert "shifts them itself" in audited(rows).findings[0].remedy


def test_labels_of_other_tokens_are_found():
    rows = others(plain_rows())
    rows[1]["labels"][-3] = 77
    rows[4]["labels"][-3] = -1
    assert found(rows) == {"labels_of_other_tokens": ("error", 2)}


def test_labels_of_another_length_are_found():
    rows = others(plain_rows())
    rows[0]["labels"] = rows[0]["labels"][1:]
    assert found(rows)["labels_of_other_length"] == ("error", 1)
    rows = others(plain_rows())
    rows[9]["labels"] = [*rows[9]["labels"], IGNORE_INDEX]
    assert found(rows) == {"labels_of_other_length": ("error", 1)}


def padded(row, *, in_loss, mask):
    pads = [PAD] * 5
    new = {
        "input_ids": [*row["input_ids"], *pads],
        "labels": [*row["labels"], *(pads if in_loss else [IGNORE_INDEX] * 5)],
    }
    if mask:
        new["attention_mask"] = [1] * len(row["input_ids"]) + [0] * 5
    return new


@pytest.mark.parametrize("mask", [True, False])
def test_padding_that_carries_loss_is_found_and_padding_that_does_not_is_none(mask):
    rows = others(plain_rows())
    assert found([padded(row, in_loss=False, mask=mask) for row in rows]) == {}
    wrong = [padded(row, in_loss=i < 4, mask=mask) for i, row in enumerate(rows)]
    assert found(wrong) == {"padding_in_loss": ("error", 4)}
    assert "attention_mask" in audited(wrong).findings[0].remedy


def test_padding_at_the_start_is_none_either():
    rows = others(plain_rows())
    left = [
        {"input_ids": [PAD] * 3 + r["input_ids"], "labels": [IGNORE_INDEX] * 3 + r["labels"]}
        for r in rows
    ]
    assert found(left) == {}
    left[0]["labels"][:3] = [PAD] * 3
    assert found(left) == {"padding_in_loss": ("error", 1)}


def test_unknown_tokens_are_a_warning():
    tokenizer = tokenizer_with(byte_tokenizer().chat_template, special=["<unk>"])
    tokenizer.unk_token = "<unk>"
    rows = plain_rows(tokenizer)
    assert found(rows, tokenizer) == {}
    rows[6] = with_tokens(rows[6], 20, [tokenizer.unk_token_id] * 2)
    (finding,) = audited(rows, tokenizer).findings
    assert (finding.name, finding.level, finding.count) == ("unknown_tokens", "warning", 1)
    assert "'<unk>' 2 times" in finding.what


def test_an_unknown_token_that_is_the_padding_is_no_finding():
    tokenizer = byte_tokenizer()
    tokenizer.unk_token = "<|endoftext|>"
    rows = [padded(row, in_loss=False, mask=False) for row in others(plain_rows())]
    assert found(rows, tokenizer) == {}


def test_replacement_characters_are_found_in_questions_and_answers():
    talks = [talk("q", f"答 {i}，") for i in range(NUM_ROWS)]
    talks[3], talks[8] = talk("q\ufffd", "a"), talk("q", "多喝\ufffd\ufffd水")
    rows = rendered(talks, byte_tokenizer())
    (finding,) = audited(rows).findings
    assert (finding.name, finding.level, finding.count) == ("replacement_characters", "warning", 2)
    assert finding.first == ["data.jsonl:4", "data.jsonl:9"]
    assert "encoding" in finding.remedy


def test_bytes_of_a_replacement_character_in_two_rows_are_none():
    broken = ids_of(byte_tokenizer(), "\ufffd")
    assert len(broken) == 3
    rows = others(plain_rows())[:2]
    rows[0] = with_tokens(rows[0], len(rows[0]["input_ids"]) - 1, broken[:2])
    rows[0] = {key: value[:-1] for key, value in rows[0].items()}
    rows[1] = with_tokens(rows[1], 0, broken[2:])
    assert "replacement_characters" not in found(rows)


def test_ids_beyond_the_embedding_are_an_error(tmp_path):
    size = len(byte_tokenizer())
    rows = plain_rows()
    rows[7] = with_tokens(rows[7], 20, [size + 3])
    folder = model_files(tmp_path)
    (finding,) = audited(rows, folder=folder).findings
    assert (finding.name, finding.level, finding.count) == ("ids_beyond_embedding", "error", 1)
    assert f"'id {size + 3}' 1 times" in finding.what
    small = model_files(tmp_path / "small", vocab_size=size - 1)
    letter = with_tokens(plain_rows()[0], 20, [size - 1])
    assert found([letter], folder=small) == {"ids_beyond_embedding": ("error", 1)}
    assert found([letter], folder=folder) == {}


def test_a_row_longer_than_the_models_longest_input_is_a_warning(tmp_path):
    rows = plain_rows()
    longest = max(len(row["input_ids"]) for row in rows)
    folder = model_files(tmp_path, max_position_embeddings=longest - 1)
    report = audited(rows, folder=folder)
    assert [f.name for f in report.findings] == ["longer_than_context"]
    assert report.findings[0].remedy == f"prepare.max_length: {longest - 1}"


def weights(folder, *, tokens, row, zero=()):
    """A model in safetensors whose last tokens have that row in the embedding."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    size = len(byte_tokenizer()) + tokens
    embedding = torch.randn(size, 16)
    embedding[size - tokens :] = row(embedding[: size - tokens])
    embedding[list(zero)] = 0
    save_file({"model.embed_tokens.weight": embedding}, folder / "model.safetensors")


@pytest.mark.parametrize(
    "row",
    [lambda known: known[0] * 0, lambda known: known.mean(dim=0), lambda known: known[50]],
    ids=["zero", "the mean", "all the same"],
)
def test_added_tokens_that_were_never_trained_are_an_error_where_they_are_used(tmp_path, row):
    tokenizer = tokenizer_with(byte_tokenizer().chat_template, special=["<|new|>", "<|other|>"])
    folder = model_files(tmp_path, vocab_size=len(tokenizer))
    weights(folder, tokens=2, row=row)
    rows = plain_rows(tokenizer)
    assert found(rows, tokenizer, folder) == {}
    rows[1] = with_tokens(rows[1], 20, [len(tokenizer) - 1])
    (finding,) = audited(rows, tokenizer, folder).findings
    assert (finding.name, finding.level, finding.count) == ("untrained_token", "error", 1)
    assert "'<|other|>' 1 times" in finding.what
    assert finding.remedy.startswith("model.chat_template: plain_en")


def test_where_the_set_does_not_say_so_rows_as_long_as_the_longest_were_cut():
    table = Table(
        lengths=np.array([5, 9, 9, 9]),
        supervised=np.array([1, 1, 1, 1]),
        num_cut=None,
        unended=np.zeros(4, dtype=int),
        is_open=np.array([True, True, False, True]),
    )
    assert cut(table).tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("tokenizer", "turns"),
    [(of_shape(name), 2) for name in SHAPES]
    + [(command_r(), 2), (strips_reasoning(), 2), (with_reasoning(), 1)],
    ids=[*SHAPES, "command_r", "strips_reasoning", "with_reasoning"],
)
def test_no_template_that_ends_its_answers_has_findings(tokenizer, turns):
    talks = [talk(*["hi", f"yes {i}"] * turns).trained_on("last") for i in range(NUM_ROWS)]
    rows = rendered(talks, tokenizer)
    assert found(rows, tokenizer) == found(others(rows), tokenizer) == {}
