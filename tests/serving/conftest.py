"""A model whose answers are known: it copies a text, whatever it is asked."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from burnish.serving.engine import Engine
from tests.conftest import byte_tokenizer, tiny_llama


def reciting_model(tokenizer, text, *, ends=True, room=512):
    """A Llama that says `text` after any prompt: a token's own embedding predicts the next one.

    Each token may occur once in the text, and the first follows a line break, with which every
    prompt of the ChatML and plain templates ends.
    """
    size = len(tokenizer)
    model = tiny_llama(
        size,
        hidden_size=size + 1,
        head_dim=4,
        num_attention_heads=1,
        num_key_value_heads=1,
        tie_word_embeddings=False,
        max_position_embeddings=room,
    )
    ids = tokenizer("\n" + text, add_special_tokens=False)["input_ids"]
    assert len(set(ids)) == len(ids), "a token occurs twice"
    ids += [tokenizer.eos_token_id] if ends else [ids[1]]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                weight.zero_()
        model.model.embed_tokens.weight.zero_()
        model.model.embed_tokens.weight[:, :size] = torch.eye(size)
        model.lm_head.weight.zero_()
        for token, follower in pairwise(ids):
            model.lm_head.weight[follower, token] = 1.0
    return model


@pytest.fixture(scope="module")
def reciting():
    """Makes engines around models that recite, and closes them."""
    engines = []

    def make(text, *, template=None, ends=True, room=512):
        tokenizer = byte_tokenizer(template) if template else byte_tokenizer()
        engine = Engine(reciting_model(tokenizer, text, ends=ends, room=room), tokenizer)
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()
