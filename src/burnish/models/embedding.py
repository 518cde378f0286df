"""The rows of a model's token embedding, read from its safetensors without loading the model.

Source: safetensors, "Format": eight bytes with the length of a JSON header, the header, the data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NAMES = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
_HEADS = ("lm_head.weight", "embed_out.weight", "output.weight")
_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_LARGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class TokenRows:
    """A table with a row for each token, on disk: the embedding or the head.

    Attributes:
        name: what the weights call it.
        num_rows: how many tokens it knows.
        values: the table as stored, [rows, width]; bfloat16 as its 16 bits.
    """

    name: str
    num_rows: int
    values: NDArray[Any]

    def rows(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows of some tokens, [tokens, width]."""
        read = np.asarray(self.values[tokens])
        if read.dtype == np.uint16:
            return (read.astype(np.uint32) << 16).view(np.float32)
        return read.astype(np.float32)


def read_token_rows(folder: Path) -> list[TokenRows]:
    """The embedding and, where the weights hold one, the head.

    Empty where the folder has no safetensors, or where their type is none that numpy can read.
    """
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        header, begin = _read_header(path)
        for name, entry in header.items():
            if name.endswith((*_NAMES, *_HEADS)) and entry.get("dtype") in _TYPES:
                found.append(_table(path, begin, name, entry))
    return sorted(found, key=lambda table: table.name.endswith(_HEADS))


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _LARGEST_HEADER:
            return {}, 0
        try:
            header = json.loads(file.read(size))
        except ValueError:  # no safetensors at all; whoever loads the model will say so
            return {}, 0
    header.pop("__metadata__", None)
    return header, 8 + size


def _table(path: Path, begin: int, name: str, entry: dict[str, Any]) -> TokenRows:
    shape = tuple(entry["shape"])
    values = np.memmap(
        path,
        dtype=_TYPES[entry["dtype"]],
        mode="r",
        offset=begin + entry["data_offsets"][0],
        shape=shape,
    )
    return TokenRows(name, shape[0], values)
