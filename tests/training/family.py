"""Small random models of the Llama-like family, others that are not of it, and records for them."""

from __future__ import annotations

import random

import torch
import transformers
from peft import LoraConfig, get_peft_model

VOCAB = 67
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
ODD = {"hidden_size": 30, "intermediate_size": 37, "num_attention_heads": 3}

FAMILY = {
    "llama, tied head": ("Llama", {"tie_word_embeddings": True}),
    "llama, odd sizes": ("Llama", {**ODD, "num_key_value_heads": 3, "num_hidden_layers": 3}),
    "llama, one key head": ("Llama", {"num_key_value_heads": 1}),
    "llama, biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama 3 rope": ("Llama", {"rope_parameters": LLAMA3_ROPE}),
    "llama, yarn rope": ("Llama", {"rope_parameters": YARN_ROPE}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 10}),
    "mistral": ("Mistral", {"sliding_window": None}),
}
"""Models that the fast path takes; every one has six query heads to two key heads, or says so."""

SLIDING = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
OTHERS = {
    "gemma 3": ("Gemma3", {"head_dim": 8, **SLIDING}),
    "gemma 2, soft caps": (
        "Gemma2",
        {"head_dim": 8, "final_logit_softcapping": 2.0, "attn_logit_softcapping": 3.0, **SLIDING},
    ),
    "phi 3": ("Phi3", {}),
    "gpt-neox": ("GPTNeoX", {"num_key_value_heads": None}),
}
"""Models that only their own forward computes."""


def build(kind, seed=0, **settings):
    """A random model of a class of transformers, its weights far from where they start."""
    config = getattr(transformers, {"Gemma3": "Gemma3Text"}.get(kind, kind) + "Config")
    merged = {k: v for k, v in {**SIZES, **settings}.items() if v is not None or k not in SIZES}
    model = getattr(transformers, f"{kind}ForCausalLM")(config(**merged))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            noise = 0.15 * torch.randn(p.shape, generator=generator)
            p.copy_(noise if p.dim() > 1 else p + noise)  # norms stay around where they start
    return model.eval()


def adapted(model, targets="all-linear", **settings):
    """The model with an adapter whose B is not zero, so that A's gradient is not zero either."""
    config = LoraConfig(
        r=4, lora_alpha=6, target_modules=targets, task_type="CAUSAL_LM", **settings
    )
    adapted = get_peft_model(model, config).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in adapted.parameters():
            if p.requires_grad:
                p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    return adapted


def records(lengths=(5, 40, 70, 9, 130, 33), *, prefix=20, seed=1):
    """Records of so many tokens; every second begins with the same `prefix` tokens more."""
    chance = random.Random(seed)
    shared = [chance.randrange(3, VOCAB) for _ in range(prefix)]
    made = []
    for index, length in enumerate(lengths):
        own = [chance.randrange(3, VOCAB) for _ in range(length)]
        ids = shared + own if index % 2 else own
        prompt = len(ids) - chance.randrange(1, length)
        made.append((ids, [-100] * prompt + ids[prompt:]))
    return made


def num_supervised(records):
    return sum(label != -100 for _, labels in records for label in labels[1:])


def one_by_one(model, records):
    """Loss and gradients by the model's own forward, a record at a time, unpadded and unpacked."""
    count, total = num_supervised(records), 0.0
    model.zero_grad()
    for ids, labels in records:
        logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits, torch.tensor(labels[1:]).to(logits.device), ignore_index=-100, reduction="sum"
        )
        (loss / count).backward()
        total += float(loss.detach()) / count
    return total, take_gradients(model)


def by_rows(model, loss_sum, rows):
    """The same by packed rows."""
    count, total = sum(len(row.targets) for row in rows), 0.0
    model.zero_grad()
    for row in rows:
        loss = loss_sum(row) / count
        loss.backward()
        total += float(loss.detach())
    return total, take_gradients(model)


def take_gradients(model):
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    return found


def worst_difference(found, expected):
    """The largest relative difference of a gradient, by norm."""
    assert found.keys() == expected.keys()
    return max(
        float((found[n].double() - e.double()).norm() / e.double().norm())
        for n, e in expected.items()
    )
