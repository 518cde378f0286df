"""Two lists of token ids: where they part first, shown with the text around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

TextOf = Callable[[int], str]
"""The text of a token by its id."""

NUM_CONTEXT = 6
"""Tokens shown on each side of the first difference."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place at which two lists part; None where one has ended there."""

    index: int
    expected: int | None
    found: int | None


def first_difference(expected: Sequence[int], found: Sequence[int]) -> Difference | None:
    """Where two lists of ids part first, or None if they are equal."""
    for index, (left, right) in enumerate(zip(expected, found, strict=False)):
        if left != right:
            return Difference(index, left, right)
    if len(expected) == len(found):
        return None
    index = min(len(expected), len(found))
    longer = expected if len(expected) > len(found) else found
    ended = (longer[index], None) if longer is expected else (None, longer[index])
    return Difference(index, *ended)


def show_difference(
    expected: Sequence[int], found: Sequence[int], text_of: TextOf, text_of_found: TextOf
) -> str:
    """Three lines for a reader: which token differs, and both sides with some context.

    Both lists must differ. Texts are quoted as Python does it, so that no text of a stranger's
    server reaches the terminal as a control sequence.
    """
    place = first_difference(expected, found)
    assert place is not None
    return "\n".join(
        (
            f"token {place.index + 1} differs",
            f"    training saw  {_around(expected, place.index, text_of)}",
            f"    found         {_around(found, place.index, text_of_found)}",
        )
    )


def _around(ids: Sequence[int], index: int, text_of: TextOf) -> str:
    before = "".join(map(text_of, ids[max(0, index - NUM_CONTEXT) : index]))
    after = "".join(map(text_of, ids[index + 1 : index + 1 + NUM_CONTEXT]))
    if index >= len(ids):
        return f"…{before!r} then nothing more"
    return f"…{before!r} then {text_of(ids[index])!r} (id {ids[index]}) then {after!r}…"


def inserted(expected: Sequence[int], found: Sequence[int]) -> list[int]:
    """The block of ids that makes `found` out of `expected`, as early as it can stand.

    Empty where there is no such single block.
    """
    num_new = len(found) - len(expected)
    if num_new <= 0:
        return []
    for start in range(len(expected) + 1):
        if list(found[start + num_new :]) == list(expected[start:]):
            return list(found[start : start + num_new])
        if start == len(expected) or found[start] != expected[start]:
            return []
    return []
