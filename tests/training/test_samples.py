"""Answers at each evaluation: what is written, and that training does not notice."""

from __future__ import annotations

import random
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from burnish.conversation import Conversation, Message
from burnish.recipe import LoraSettings
from burnish.training import samples as module
from burnish.training.adapter import add_adapter
from burnish.training.journal import read_lines
from burnish.training.samples import Prompt, Samples, choose_prompts
from tests.conftest import byte_tokenizer, tiny_llama


def conversation(question, answer, origin="a.csv:1"):
    return Conversation((Message("user", question), Message("assistant", answer)), origin).as_json()


@pytest.fixture
def model():
    torch.manual_seed(0)
    vocab = len(byte_tokenizer())
    return add_adapter(tiny_llama(vocab), LoraSettings(r=2))


def answering(path, *, count=2, **settings):
    tokenizer = byte_tokenizer()
    texts = [conversation(f"Question {i}?", f"Answer {i}.", f"a.csv:{i}") for i in range(count)]
    prompts = choose_prompts(texts, tokenizer, count)
    return Samples(path, prompts, tokenizer, **{"max_new_tokens": 5, **settings})


def evaluate(samples, model, step=4):
    samples.on_evaluate(None, SimpleNamespace(global_step=step), None, model=model)


def test_the_first_prompts_are_chosen_and_passages_have_none(tokenizer):
    passage = Conversation((Message("text", "A passage."),), "b.txt:1").as_json()
    texts = [passage, conversation("One?", "1", "a:1"), conversation("Two?", "2", "a:2")]
    (prompt,) = choose_prompts(texts, tokenizer, 1)
    assert (prompt.origin, prompt.question, prompt.reference) == ("a:1", "One?", "1")
    rendered = "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(prompt.ids) == rendered
    assert len(choose_prompts(texts, tokenizer, 9)) == 2


def test_an_answer_is_written_with_step_origin_and_reference_and_said(tmp_path, model, capfd):
    path = tmp_path / "samples.jsonl"
    evaluate(answering(path), model)
    first, second = read_lines(path)
    assert first.keys() == {
        "step", "origin", "prompt", "answer", "reference", "num_tokens", "ended", "seconds"
    }  # fmt: skip
    assert (first["step"], first["origin"], first["prompt"]) == (4, "a.csv:0", "Question 0?")
    assert (second["reference"], second["num_tokens"]) == ("Answer 1.", 5)
    assert second["ended"] is False
    assert "sample at step 4, a.csv:1: " in capfd.readouterr().err


def test_an_answer_is_the_greedy_one_of_the_adapter_as_it_is_now(tmp_path, model):
    path = tmp_path / "samples.jsonl"
    samples = answering(path, count=1)
    evaluate(samples, model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=3.0)
    evaluate(samples, model)
    ids = list(samples._prompts[0].ids)
    for _ in range(5):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    before, now = read_lines(path)
    expected = byte_tokenizer().decode(ids[-5:], skip_special_tokens=True)
    assert now["answer"] == expected != before["answer"]


def test_no_random_number_is_drawn_and_gradients_go_on_as_before(tmp_path, model):
    path = tmp_path / "samples.jsonl"
    ids = torch.tensor([[5, 6, 7, 8]])

    def gradients():
        model.zero_grad()
        model.train()
        model(input_ids=ids, labels=ids).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    expected = gradients()
    states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    evaluate(answering(path), model)
    now = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(now[0], states[0])
    assert now[1:] == states[1:]
    assert all(map(torch.equal, gradients(), expected))


def test_rotary_tables_that_grow_in_an_answer_serve_training_afterwards(tmp_path):
    torch.manual_seed(0)
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    base = tiny_llama(len(byte_tokenizer()), max_position_embeddings=16, rope_parameters=rope)
    model = add_adapter(base, LoraSettings(r=2))
    evaluate(answering(tmp_path / "samples.jsonl"), model)
    model.train()
    ids = torch.arange(3, 43)[None]
    model(input_ids=ids, labels=ids).loss.backward()


def test_answers_end_with_their_time(tmp_path, model):
    path = tmp_path / "samples.jsonl"
    samples = answering(path, count=3, max_new_tokens=400, seconds=0.3)
    started = time.perf_counter()
    evaluate(samples, model)
    assert time.perf_counter() - started < 5
    assert read_lines(path)[-1]["num_tokens"] < 400
    assert not read_lines(path)[-1]["ended"]


def test_memory_that_runs_out_costs_the_samples_and_not_the_run(
    tmp_path, model, monkeypatch, capfd
):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "generate", full)
    evaluate(answering(tmp_path / "samples.jsonl"), model)
    assert "memory ran out over the samples" in capfd.readouterr().err
    assert not (tmp_path / "samples.jsonl").exists()


def test_weights_that_are_spread_over_ranks_are_not_asked(tmp_path, model, monkeypatch):
    monkeypatch.setattr(module, "_is_sharded", lambda model: True)
    evaluate(answering(tmp_path / "samples.jsonl"), model)
    assert not (tmp_path / "samples.jsonl").exists()


def test_a_long_answer_is_shortened_on_the_terminal_alone(tmp_path, model, monkeypatch, capfd):
    monkeypatch.setattr(module, "decode", lambda ids, tokenizer: "many words\n" * 20)
    samples = Samples(
        tmp_path / "samples.jsonl",
        [Prompt("a.csv:1", "?", "!", (5, 6))],
        byte_tokenizer(),
        max_new_tokens=2,
    )
    evaluate(samples, model)
    shown = ("many words " * 20)[:100]
    assert f"a.csv:1: {shown}…" in capfd.readouterr().err.replace("\n", "")
    assert read_lines(tmp_path / "samples.jsonl")[0]["answer"] == "many words\n" * 20
