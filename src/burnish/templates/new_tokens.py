"""Words that become tokens of their own, noted in the tokenizer's own settings.

They are ordinary added tokens, not special ones: read out of anybody's text, shown when ids become
text again, and control tokens only where the chat template writes them (rendering/boundaries.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from burnish.errors import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOTE = "new_tokens"
"""The setting in tokenizer_config.json that lists them."""


def add_new_tokens(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> None:
    """Adds words to a tokenizer, unless it is one that was saved with them.

    Raises:
        RecipeError: a word is a token of the model already.
    """
    if not words or tokenizer.init_kwargs.get(NOTE) == list(words):
        return
    from tokenizers import AddedToken

    known = tokenizer.get_vocab()
    for word in words:
        if word in known:
            raise RecipeError(
                "model.new_tokens",
                f"{word!r} is a token of this model already ({known[word]}).",
                "Take it out of the list.",
            )
    # Not normalized: only the very characters are the token, none that merely look like them.
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in words])
    tokenizer.init_kwargs[NOTE] = list(words)


def new_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of the words that were added to a tokenizer."""
    words = tokenizer.init_kwargs.get(NOTE) or []
    return [int(i) for i in tokenizer.convert_tokens_to_ids(list(words))]
