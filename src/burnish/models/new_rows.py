"""Rows for new tokens in a model's embedding and head.

A row starts at the mean of the rows of the tokens that the word was before, so that the model
begins close to what it knows of the word.

Source: Gee et al. 2022, "Fast Vocabulary Transfer for Language Model Compression".
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.errors import ModelError
from burnish.recipe import ModelSection
from burnish.templates.new_tokens import add_new_tokens, new_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def add_rows(model: Any, folder: Path, section: ModelSection) -> None:
    """Gives model.new_tokens their rows; a model with unused rows at these places keeps its size.

    Args:
        model: a base, as it was loaded.
        folder: where it lies, for its tokenizer.
        section: the recipe's model section.

    Raises:
        ModelError: its head has biases, which rows of new tokens can't have in PEFT.
        RecipeError: a word is a token of the model already.
    """
    if not section.new_tokens:
        return
    import torch

    head = model.get_output_embeddings()
    if head is not None and getattr(head, "bias", None) is not None:
        raise ModelError(
            str(folder),
            "its head has biases, which PEFT leaves out when rows of new tokens are trained.",
            "Take model.new_tokens out of the recipe.",
        )
    tokenizer = _own_tokenizer(folder, section)
    pieces = [tokenizer(w, add_special_tokens=False)["input_ids"] for w in section.new_tokens]
    add_new_tokens(tokenizer, section.new_tokens)
    ids = new_token_ids(tokenizer)
    if max(ids) >= len(model.get_input_embeddings().weight):
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    tables = {id(t.weight): t.weight for t in _tables(model).values()}
    with torch.no_grad():
        for table in tables.values():
            table[ids] = torch.stack([table[piece].mean(0) for piece in pieces])


def new_rows(model: Any, folder: Path, section: ModelSection) -> dict[str, list[int]]:
    """The new rows by the name of the layer: the embedding's, and the head's if it has its own."""
    if not section.new_tokens:
        return {}
    tokenizer = _own_tokenizer(folder, section)
    add_new_tokens(tokenizer, section.new_tokens)
    ids = new_token_ids(tokenizer)
    own: dict[int, str] = {}
    for name, module in _tables(model).items():
        own.setdefault(id(module.weight), name)
    return {name: ids for name in own.values()}


def _tables(model: Any) -> dict[str, Any]:
    """Embedding and head by name, the embedding first."""
    wanted = [model.get_input_embeddings(), model.get_output_embeddings()]
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(module)]: module for module in wanted if module is not None}


def _own_tokenizer(folder: Path, section: ModelSection) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        str(folder), trust_remote_code=section.trust_remote_code
    )
    return tokenizer
