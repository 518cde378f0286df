"""What is known of tokens: stops, blanks, bytes of U+FFFD, rows that were never trained."""

from __future__ import annotations

import json

import numpy as np
from safetensors.numpy import save_file

from burnish.labels.vocabulary import look_at_tokens
from burnish.templates.new_tokens import add_new_tokens
from tests.conftest import byte_tokenizer
from tests.rendering.shapes import ids_of, sentencepiece_tokenizer


def test_stops_are_the_templates_and_those_of_the_generation_config(tmp_path):
    tokenizer = byte_tokenizer()
    assert look_at_tokens(tokenizer, None).stops == {2}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    assert look_at_tokens(tokenizer, tmp_path).stops == {0, 2}


def test_blanks_are_white_space_alone():
    tokenizer = byte_tokenizer()
    blank = look_at_tokens(tokenizer, None).blank
    assert [bool(blank[i]) for i in ids_of(tokenizer, " \n\ta")] == [True, True, True, False]
    assert not blank[-1]


def test_the_three_bytes_of_the_replacement_character_are_known():
    tokenizer = byte_tokenizer()
    broken = look_at_tokens(tokenizer, None).broken
    first, second, third = ids_of(tokenizer, "\ufffd")
    assert (broken.ends[first], broken.middle[second], broken.begins[third]) == (1, True, 1)
    assert not broken.whole.any()


def test_byte_tokens_of_sentencepiece_are_known_too():
    tokenizer = sentencepiece_tokenizer(None)
    broken = look_at_tokens(tokenizer, None).broken
    ids = tokenizer.convert_tokens_to_ids(["<0xEF>", "<0xBF>", "<0xBD>"])
    assert [broken.ends[ids[0]], broken.middle[ids[1]], broken.begins[ids[2]]] == [1, True, 1]


def test_an_unknown_token_that_ends_or_begins_texts_is_no_sign_of_anything():
    tokenizer = byte_tokenizer()
    tokenizer.unk_token = "<|im_end|>"
    assert look_at_tokens(tokenizer, None).unk is None
    tokenizer.unk_token = "<|endoftext|>"
    assert look_at_tokens(tokenizer, None).unk == 0


def test_names_are_given_also_to_ids_that_no_token_has():
    known = look_at_tokens(byte_tokenizer(), None)
    assert known.name_of(2) == "<|im_end|>"
    assert known.name_of(-1) == "id -1"
    assert known.name_of(known.size) == f"id {known.size}"


def test_several_stop_tokens_are_told_in_an_array(tmp_path):
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0]}))
    known = look_at_tokens(byte_tokenizer(), tmp_path)
    assert known.is_stop(np.array([0, 1, 2, 3])).tolist() == [True, False, True, False]


def test_a_text_model_within_another_is_asked_for_its_own_figures(tmp_path):
    inner = {"vocab_size": 300, "max_position_embeddings": 64, "eos_token_id": 2}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": inner}))
    known = look_at_tokens(byte_tokenizer(), tmp_path)
    assert (known.num_rows, known.context) == (300, 64)
    assert known.special["config"]["eos"] == [2]


def test_new_tokens_have_rows_and_these_are_trained(tmp_path):
    tokenizer = byte_tokenizer()
    size = len(tokenizer)
    table = np.random.default_rng(0).normal(size=(size + 1, 4)).astype(np.float32)
    table[size] = 0  # a row to spare, never trained
    save_file({"embed_tokens.weight": table}, tmp_path / "model.safetensors")
    add_new_tokens(tokenizer, ["HbA1c", "BMI"])
    found = look_at_tokens(tokenizer, tmp_path)
    assert found.num_rows == size + 2
    assert not found.untrained.any()
