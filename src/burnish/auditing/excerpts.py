"""Short pieces of long texts, in one line, with what can't be seen written as its escape."""

from __future__ import annotations

from collections.abc import Callable

CONTEXT = 16
"""So many characters are shown on both sides of a place."""

LONGEST = 60
"""So many characters of a place, or of a text, are shown."""

LINE_BREAK = "⏎"
CUT = "…"


def visible(text: str) -> str:
    """The text in one line: a line break as ⏎, and what can't be printed as its escape."""
    text = text.replace("\r\n", "\n").replace("\n", LINE_BREAK)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shortened(text: str) -> str:
    """The text if it is short, else its beginning and its end."""
    if len(text) <= LONGEST:
        return visible(text)
    half = LONGEST // 2
    return f"{visible(text[:half])}{CUT}{visible(text[-half:])}"


def around(text: str, start: int, stop: int) -> str:
    """The place [start, stop) of a text with a little of what stands around it."""
    first = max(0, start - CONTEXT)
    last = min(len(text), stop + CONTEXT)
    shown = text[first:last]
    if len(shown) > LONGEST + 2 * CONTEXT:
        last = first + LONGEST + 2 * CONTEXT
        shown = text[first:last]
    return f"{CUT if first else ''}{visible(shown)}{CUT if last < len(text) else ''}"


def difference(before: str, after: str) -> tuple[str, str]:
    """The first place in which two texts differ, as it stands in both."""
    start = _common(before, after)
    stop_before, stop_after = _meet_again(before, after, start)
    return around(before, start, stop_before), around(after, start, stop_after)


def _meet_again(before: str, after: str, start: int) -> tuple[int, int]:
    """Where two texts that part at `start` have some characters in common again."""
    for size in range(1, 2 * LONGEST):
        for taken in range(size + 1):
            one, other = start + taken, start + size - taken
            if one > len(before) or other > len(after):
                continue
            if before[one : one + CONTEXT] == after[other : other + CONTEXT]:
                return one, other
    return start + LONGEST, start + LONGEST


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    differing = (i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    return next(differing, min(len(one), len(other)))


def locate(text: str, is_in: Callable[[str], bool]) -> tuple[int, int]:
    """About the first place of a text in which is what `is_in` finds: [start, stop).

    The shortest beginning that has it, and of that the shortest end, by halving: no more need be
    known of what is looked for than whether a text has it.
    """
    stop = _least(len(text), lambda length: is_in(text[:length]))
    length = _least(stop, lambda length: is_in(text[stop - length : stop]))
    return stop - length, stop


def _least(most: int, holds: Callable[[int], bool]) -> int:
    """The least number up to `most` for which something holds that holds for all above it."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high
