"""An example token by token: what carries loss in colour, tokens apart, control tokens by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from burnish.conversation import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRAINED = ("black on green", "black on bright_green")
CONTEXT = ("dim", "dim underline")
"""Two styles each, in turn, so that a token can be told from the next."""
CONTROL = {True: "bold white on dark_green", False: "bold dim reverse"}
"""A control token with and without loss."""

STYLE = """
.tokens { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.9;
  font-family: ui-monospace, Menlo, Consolas, "Noto Sans Mono CJK SC", monospace; }
.tokens span { border-left: 1px solid var(--line); padding: .1rem 0; color: var(--dim); }
.tokens .on { background: color-mix(in srgb, var(--bar) 30%, transparent); color: var(--ink);
  border-color: var(--dim); }
.tokens .control { font-weight: 700; border: 1px solid var(--dim); border-radius: 3px; }
.tokens .other { text-decoration: underline wavy var(--gone); }
"""

_MOST_TOKENS_A_CHARACTER = 8


@dataclass(frozen=True, slots=True)
class Piece:
    """One token, or those that make up one character.

    Attributes:
        text: what it stands for; line breaks with a mark before them.
        ids: the tokens.
        supervised: whether they carry loss.
        is_control: whether it is a special token, whose name is shown.
        is_other: whether the label is another token.
    """

    text: str
    ids: tuple[int, ...]
    supervised: bool
    is_control: bool
    is_other: bool


def pieces(
    ids: Sequence[int], labels: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> Iterator[Piece]:
    """The tokens of an example in order; labels that are lacking carry no loss."""
    filled = [*labels, *[IGNORE_INDEX] * (len(ids) - len(labels))]
    control = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    size, at = len(tokenizer), 0
    while at < len(ids):
        count = _num_in_character(ids, filled, at, tokenizer, control)
        taken = tuple(ids[at : at + count])
        known = 0 <= ids[at] < size
        supervised = filled[at] != IGNORE_INDEX
        yield Piece(
            text=_shown(tokenizer.decode(taken)) if known else f"[id {ids[at]}]",
            ids=taken,
            supervised=supervised,
            is_control=ids[at] in control or not known,
            is_other=supervised and filled[at] != ids[at],
        )
        at += count


def _num_in_character(
    ids: Sequence[int],
    labels: Sequence[int],
    at: int,
    tokenizer: PreTrainedTokenizerBase,
    control: set[int],
) -> int:
    """How many tokens it takes until no character is left in pieces."""
    size, fate = len(tokenizer), labels[at] != IGNORE_INDEX
    if ids[at] in control or not 0 <= ids[at] < size:
        return 1
    for count in range(1, _MOST_TOKENS_A_CHARACTER + 1):
        last = at + count - 1
        if last >= len(ids) or (labels[last] != IGNORE_INDEX) != fate or ids[last] in control:
            break
        if not 0 <= ids[last] < size:
            break
        if not tokenizer.decode(ids[at : last + 1]).endswith("\ufffd"):
            return count
    return 1


def _shown(text: str) -> str:
    return text.replace("\r", "␍").replace("\n", "↵\n").replace("\t", "→\t")


def coloured(found: Sequence[Piece]) -> Text:
    """The pieces for a terminal with colours."""
    text = Text()
    for i, piece in enumerate(found):
        styles = TRAINED if piece.supervised else CONTEXT
        text.append(
            piece.text, style=CONTROL[piece.supervised] if piece.is_control else styles[i % 2]
        )
    return text


def bracketed(found: Sequence[Piece]) -> str:
    """The pieces where there are no colours: what carries loss in ⟦ ⟧, tokens apart by ·."""
    shown, before = "", False
    for i, piece in enumerate(found):
        if piece.supervised != before:
            shown += "⟦" if piece.supervised else "⟧"
        elif i:
            shown += "·"
        shown += piece.text
        before = piece.supervised
    return shown + ("⟧" if before else "")


def as_html(found: Sequence[Piece]) -> str:
    """The pieces as HTML, escaped; a tip shows the ids. STYLE belongs to it."""
    shown = []
    for piece in found:
        flags = {"on": piece.supervised, "control": piece.is_control, "other": piece.is_other}
        names = " ".join(name for name, is_so in flags.items() if is_so)
        ids = " ".join(map(str, piece.ids))
        mark = f' class="{names}"' if names else ""
        shown.append(f'<span{mark} title="{ids}">{escape(piece.text)}</span>')
    return f'<div class="tokens">{"".join(shown)}</div>\n'


def print_example(
    ids: Sequence[int], labels: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Prints an example on stdout, with colours if it has any."""
    found = list(pieces(ids, labels, tokenizer))
    console = Console(highlight=False, soft_wrap=True)
    if console.is_terminal and console.color_system:
        console.print(coloured(found))
    else:
        console.print(bracketed(found), markup=False)
