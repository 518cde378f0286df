"""Loss against transformers' own, on one row at a time without padding."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.conversation import IGNORE_INDEX
from burnish.errors import OutOfMemoryError
from burnish.scoring import Score, collate, plain_head_decoder, score, supervised_logits
from tests.conftest import byte_tokenizer, tiny_llama

END = 2


def row(length, num_prompt, *, start):
    """Ids and labels whose first tokens are the prompt; the last is the stop token."""
    ids = [3 + (start + 7 * i) % 200 for i in range(length - 1)] + [END]
    return ids, [IGNORE_INDEX] * num_prompt + ids[num_prompt:]


ROWS = [row(9 + 5 * (i % 4), 3 + i % 3, start=i) for i in range(10)]


@pytest.fixture(scope="module")
def model():
    return tiny_llama(len(byte_tokenizer()))


def own_losses(model, rows):
    """What transformers says, a row at a time: sums of negative log-likelihood, and counts."""
    sums, counts = [], []
    for ids, labels in rows:
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        count = sum(label != IGNORE_INDEX for label in labels[1:])
        sums.append(float(loss) * count)
        counts.append(count)
    return sums, counts


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_the_loss_is_transformers_own_whatever_the_batch_size(model, batch_size):
    sums, counts = own_losses(model, ROWS)
    result = score(model, ROWS, batch_size=batch_size)
    assert result.loss == pytest.approx(sum(sums) / sum(counts), abs=1e-6)
    assert result.num_tokens == sum(counts)
    assert result.by_example == pytest.approx(sums, abs=1e-4)


def test_losses_by_example_stand_in_the_order_of_the_examples(model):
    backwards = score(model, ROWS[::-1], batch_size=3).by_example
    assert backwards[::-1] == pytest.approx(score(model, ROWS, batch_size=3).by_example, abs=1e-4)


def test_a_batch_is_padded_on_the_right_and_masked_by_place():
    batch = collate([([5, 6, END], [IGNORE_INDEX, 6, END]), ([7, END], [7, END])])
    assert batch["input_ids"].tolist() == [[5, 6, END], [7, END, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[IGNORE_INDEX, 6, END], [7, END, IGNORE_INDEX]]


def test_a_pad_token_that_equals_the_stop_token_does_not_mask_it():
    rows = [([0, 5, 0], [IGNORE_INDEX, 5, 0]), ([0, 0], [IGNORE_INDEX, 0])]
    batch = collate(rows)
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[IGNORE_INDEX, 5, 0], [IGNORE_INDEX, 0, IGNORE_INDEX]]
    model = tiny_llama(16, pad_token_id=0, eos_token_id=0)
    assert score(model, rows, batch_size=2).num_tokens == 3


def test_a_row_without_loss_counts_nothing(model):
    silent = ([5, 6, 7], [IGNORE_INDEX] * 3)
    result = score(model, [silent, ROWS[0]], batch_size=2)
    assert result.by_example[0] == 0.0
    assert result.loss == pytest.approx(score(model, ROWS[:1], batch_size=1).loss, abs=1e-6)


def test_no_examples_make_a_loss_of_zero_over_no_tokens(model):
    assert score(model, [], batch_size=4) == Score(0.0, 0, ())


def test_perplexity_is_e_to_the_loss_and_never_overflows():
    assert Score(2.0, 1, (2.0,)).perplexity == pytest.approx(math.e**2)
    assert Score(1e6, 1, (1e6,)).perplexity == math.inf


def configured(name):
    """A tiny random model whose head does more than multiply, or does just that."""
    from transformers import (
        AutoModelForCausalLM,
        CohereConfig,
        Gemma2Config,
        GPT2Config,
        GraniteConfig,
        Qwen2Config,
    )

    common = {
        "vocab_size": 211,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    config = {
        "gemma2": lambda: Gemma2Config(**common, head_dim=8, final_logit_softcapping=2.0),
        "granite": lambda: GraniteConfig(**common, logits_scaling=4.0),
        "cohere": lambda: CohereConfig(**common, logit_scale=0.25),
        "qwen2": lambda: Qwen2Config(**common),
        "gpt2": lambda: GPT2Config(
            vocab_size=211, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2
        ),
    }[name]()
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


@pytest.mark.parametrize(
    "name, plain",
    [("gemma2", False), ("granite", False), ("cohere", False), ("qwen2", True), ("gpt2", True)],
)
def test_logits_at_supervised_places_are_those_of_the_whole_forward(name, plain):
    model = configured(name)
    assert (plain_head_decoder(model) is not None) == plain
    batch = collate(ROWS[:4])
    with torch.no_grad():
        logits, targets = supervised_logits(model, batch)
        whole = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    keep = batch["labels"][:, 1:] != IGNORE_INDEX
    torch.testing.assert_close(logits, whole[:, :-1][keep], rtol=1e-5, atol=1e-6)
    assert targets.tolist() == batch["labels"][:, 1:][keep].tolist()


def test_an_adapter_is_seen_through(model):
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(
        tiny_llama(len(byte_tokenizer())), LoraConfig(target_modules=["q_proj"])
    )
    expected = score(model, ROWS, batch_size=4).loss
    assert score(adapted.eval(), ROWS, batch_size=4).loss == pytest.approx(expected, abs=1e-6)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.5)
    assert abs(score(adapted, ROWS, batch_size=4).loss - expected) > 1e-4


class Small(torch.nn.Module):
    """A model that runs out of memory above so many rows, or at some of its calls.

    At a chosen call it fits a single row all the same.
    """

    def __init__(self, model, *, limit=99, failing=()):
        super().__init__()
        self.inner = model
        self.config = model.config
        self.base_model_prefix = "none"
        self.sizes = []
        self._limit, self._failing = limit, failing

    def get_output_embeddings(self):
        return None

    def forward(self, input_ids, **options):
        rows = len(input_ids)
        self.sizes.append(rows)
        if rows > self._limit or (rows > 1 and len(self.sizes) in self._failing):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner(input_ids, **options)


def test_a_batch_that_does_not_fit_is_halved_and_later_ones_stay_so(model, capfd):
    small = Small(model, limit=2)
    found = score(small, ROWS, batch_size=8, what="score base on test")
    assert small.sizes == [8, 4, 2, 2, 2, 2, 2]
    expected = score(model, ROWS, batch_size=1)
    assert found.by_example == pytest.approx(expected.by_example, abs=1e-4)
    assert found.num_tokens == expected.num_tokens
    assert capfd.readouterr().err == (
        "warning: score base on test: memory ran out over 8 at a time; from here on it is 4\n"
        "warning: score base on test: memory ran out over 4 at a time; from here on it is 2\n"
    )


def test_the_longest_examples_are_scored_first(model):
    lengths = []

    class Watched(Small):
        def forward(self, input_ids, **options):
            lengths.append(input_ids.shape[1])
            return super().forward(input_ids, **options)

    # Rows of 9, 14, 19, 24, 9, 14, 19, 24, 9 and 14 tokens.
    score(Watched(model), ROWS, batch_size=4)
    assert lengths == [24, 14, 9]


def test_an_example_that_does_not_fit_alone_is_an_error_with_its_length(model):
    with pytest.raises(OutOfMemoryError) as caught:
        score(Small(model, limit=0), ROWS[:2], batch_size=2)
    assert str(caught.value) == (
        "score: memory ran out over an example of 14 tokens alone.\n"
        "  Lower prepare.max_length, or use a machine with more free memory."
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10), st.integers(1, 8), st.sets(st.integers(1, 12)))
def test_whenever_memory_runs_out_every_example_counts_once(count, size, failing):
    model = tiny_llama(len(byte_tokenizer()))
    expected = score(model, ROWS[:count], batch_size=size)
    found = score(Small(model, failing=failing), ROWS[:count], batch_size=size)
    assert found.num_tokens == expected.num_tokens
    assert found.by_example == pytest.approx(expected.by_example, abs=1e-4)
