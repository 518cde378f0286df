"""What many tests need: a tiny model with a chat template, and a run folder made from it.

The tiny model is made here, from random weights and a byte-level vocabulary, so that tests run in
seconds and without a network. Tests that need the real model are marked `model`.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import hypothesis
import pytest

# Tiny models lose more to starting a second thread than they gain from it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A job that a script starts with & ignores Ctrl-C, and so would all that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from burnish.recipe_file import LoadedRecipe, load_recipe

# What hypothesis finds by chance is for a person at work; CI tries the same inputs each time.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' "
    "+ message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_tokenizer(chat_template: str | None = CHATML):
    """A tokenizer with a token a byte and ChatML's control tokens; ids are worked out by hand.

    Ids 0, 1, 2 are <|endoftext|>, <|im_start|>, <|im_end|>; a byte b is 3 + its place in the
    byte-level alphabet.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*control, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in control])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        bos_token="<|im_start|>",
    )
    wrapped.chat_template = chat_template
    return wrapped


def tiny_llama(vocab_size: int, *, seed: int = 0, **changes):
    """A random Llama of two layers, width 32, grouped-query attention and tied embeddings."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    } | changes
    return LlamaForCausalLM(LlamaConfig(**settings)).eval()


@pytest.fixture
def tokenizer():
    """A tokenizer with a token a byte and the ChatML template."""
    return byte_tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A folder with the tiny model and its tokenizer, in Hugging Face's layout."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tokenizer = byte_tokenizer()
    tiny_llama(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def alpaca_rows(count: int) -> list[dict[str, str]]:
    """Rows with different questions and short answers."""
    return [
        {"instruction": f"Question {i}?", "input": "", "output": f"Answer {i * 7 % 10}."}
        for i in range(count)
    ]


def write_recipe(folder: Path, text: str, rows: list[dict[str, str]] | None = None) -> Path:
    """A recipe file beside a data file `rows.json`."""
    data = folder / "rows.json"
    data.write_text(json.dumps(rows or alpaca_rows(40)), encoding="utf-8")
    path = folder / "recipe.yaml"
    path.write_text(text.format(folder=folder, data=data), encoding="utf-8")
    return path


@pytest.fixture
def tiny_recipe(tmp_path, tiny_model) -> LoadedRecipe:
    """A recipe that runs every stage on the tiny model in seconds."""
    text = f"""\
run_dir: {{folder}}/run
model: {{{{name_or_path: {tiny_model}}}}}
data: {{{{sources: [{{{{path: {{data}}}}}}]}}}}
prepare: {{{{max_length: 128, validation_size: 0.2, test_size: 0.2}}}}
train:
  {{{{bf16: false, num_train_epochs: 2, learning_rate: 1e-2, lora: {{{{r: 4}}}},\
   logging_steps: 1}}}}
evaluate: {{{{num_answers: 2, max_new_tokens: 8}}}}
quantize: {{{{num_samples: 8, group_size: 32}}}}
serve: {{{{max_new_tokens: 8, temperature: 0}}}}
"""
    return load_recipe(write_recipe(tmp_path, text))
