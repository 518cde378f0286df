"""Rows of the embedding and the head, read from the file as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from burnish.models.embedding import read_token_rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_of_any_width_are_read(tmp_path, dtype):
    weights = torch.tensor([[0.5, -2.0], [1.0, 3.0], [0.0, 0.25]], dtype=dtype)
    other = torch.ones(7, 3)
    save_file({"a.weight": other, "model.embed_tokens.weight": weights}, tmp_path / "m.safetensors")
    (table,) = read_token_rows(tmp_path)
    assert (table.name, table.num_rows) == ("model.embed_tokens.weight", 3)
    assert table.rows(np.array([2, 0])).tolist() == [[0.0, 0.25], [0.5, -2.0]]


def test_the_embedding_comes_before_the_head_wherever_they_lie(tmp_path):
    save_file({"lm_head.weight": torch.ones(3, 2)}, tmp_path / "1.safetensors")
    save_file({"model.embed_tokens.weight": torch.zeros(3, 2)}, tmp_path / "2.safetensors")
    names = [table.name for table in read_token_rows(tmp_path)]
    assert names == ["model.embed_tokens.weight", "lm_head.weight"]


def test_without_weights_or_with_quantized_ones_there_are_no_rows(tmp_path):
    assert read_token_rows(tmp_path) == []
    save_file({"lm_head.weight": torch.ones(3, 2, dtype=torch.int8)}, tmp_path / "1.safetensors")
    (tmp_path / "2.safetensors").write_bytes(b"\xff" * 20)
    (tmp_path / "3.safetensors").write_bytes((5).to_bytes(8, "little") + b"nope!")
    assert read_token_rows(tmp_path) == []
