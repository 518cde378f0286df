"""Small tokenizers of the kinds that families have, trained on a text of our own."""

from __future__ import annotations

import json
from functools import lru_cache

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

TEXT = [
    "The doctor asks where it hurts and for how long. A cough that stays needs a look.",
    "Four plus four is eight; ten minus three is seven. Yes, no, and perhaps.",
    "def area(width, height):\n    if width < 0:\n        return None\n\n    return width\n",
    'user assistant system tool model {"name": "weather", "arguments": {"city": "Rome"}}\n\n',
    "医生问哪里痛，痛了多久。头痛要多休息，多喝水。指令输入响应。\n\n\n",
    "### Instruction:\nName a colour.\n\n### Response:\nBlue.\n\n### 指令:\n### 输入:\n### 响应:\n",
    "User: hello\n\nAssistant: hello again\n\n[INST] and [/INST] <<SYS>> <|user|> <|assistant|>\n",
]


def with_tokens(backend: Tokenizer, special, plain, *, bos, eos):
    """A tokenizer of transformers with control tokens; `plain` ones are not marked as special."""
    from transformers import PreTrainedTokenizerFast

    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    backend.add_tokens([AddedToken(t, special=False, normalized=False) for t in plain])
    names = {"bos_token": bos, "eos_token": eos}
    given = {key: name for key, name in names.items() if name is not None}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **given)


_WORDS = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Line breaks stay together and with punctuation before them, as in Llama 3's and Qwen's."""


def byte_level(*, keeps_lines: bool) -> Tokenizer:
    """Byte-level BPE: `keeps_lines` as Llama 3 and Qwen split words, else as GPT-2 does."""
    return Tokenizer.from_str(_byte_level(keeps_lines))


@lru_cache
def _byte_level(keeps_lines: bool) -> str:
    backend = Tokenizer(models.BPE())
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not keeps_lines)
    words = [pre_tokenizers.Split(Regex(_WORDS), "isolated")] if keeps_lines else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*words, in_bytes])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=sorted(alphabet), show_progress=False, special_tokens=[]
    )
    backend.train_from_iterator(TEXT * 4, trainer)
    return backend.to_str()


def pieces(*, prepends: bool) -> Tokenizer:
    """Unigram with ▁ for blanks and bytes for what it lacks, as SentencePiece makes.

    `prepends` writes a blank before every stretch of text, as Llama 2's and Mistral's do.
    """
    backend = Tokenizer(models.Unigram(_pieces(), unk_id=0, byte_fallback=True))
    replace = normalizers.Replace(" ", "▁")
    backend.normalizer = (
        normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prepends else replace
    )
    strip = [decoders.Strip(" ", 1, 0)] if prepends else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return backend


_MORE = ["\n", "\t", "▁▁", "▁▁▁▁", "INST", "SYS", "user", "assistant", "system"]
"""Pieces that real vocabularies have: a marker made of letters alone looks the same as a user's."""


@lru_cache
def _pieces() -> list[tuple[str, float]]:
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    lines = [line for text in TEXT for line in text.split("\n")]
    trained.train_from_iterator(lines * 4, trainer)
    found = [(piece, score) for piece, score in json.loads(trained.to_str())["model"]["vocab"]]
    known = {piece for piece, _ in found}
    letters = [chr(code) for code in range(33, 127) if chr(code) not in known]
    fallback = [(f"<0x{byte:02X}>", -1000.0) for byte in range(256)]
    letters = [(letter, -20.0) for letter in letters]
    more = [*letters, *((piece, -9.0) for piece in _MORE if piece not in known)]
    return [*found, *more, *fallback]
