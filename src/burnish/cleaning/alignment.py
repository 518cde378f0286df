"""Where two sequences differ when they are laid side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

REACH = 80
"""So many tokens ahead the two texts are looked through for where they are equal again."""

RUN = 3
"""So many equal tokens say that they are."""

_Bounds = tuple[int, int, int, int]


def differing_spans(left: Sequence[str], right: Sequence[str]) -> Iterator[_Bounds]:
    """Where two sequences differ: from and to in the one, from and to in the other.

    Linear in their length. Where they are not equal again within REACH, all the rest is one span.
    """
    at = to = 0
    while True:
        run = _common_run(left, right, at, to)
        at, to = at + run, to + run
        if at == len(left) and to == len(right):
            return
        skipped, jumped = _next_equal(left, right, at, to)
        yield from _narrowed(left, right, (at, at + skipped, to, to + jumped))
        at, to = at + skipped, to + jumped


def common_start(left: str, right: str) -> int:
    """How many characters two texts have in common at the start."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_run(left: Sequence[str], right: Sequence[str], at: int, to: int) -> int:
    most = min(len(left) - at, len(right) - to)
    run = 0
    while run < most and left[at + run : at + run + 64] == right[to + run : to + run + 64]:
        run += 64
    while run < most and left[at + run] == right[to + run]:
        run += 1
    return min(run, most)


def _next_equal(left: Sequence[str], right: Sequence[str], at: int, to: int) -> tuple[int, int]:
    """How many tokens of each to skip until RUN are equal, or both end; as few as can be."""
    for distance in range(1, REACH):
        for skipped in _evenly_first(distance):
            jumped = distance - skipped
            ours = left[at + skipped : at + skipped + RUN]
            if ours == right[to + jumped : to + jumped + RUN]:
                if ours or (at + skipped >= len(left) and to + jumped >= len(right)):
                    return min(skipped, len(left) - at), min(jumped, len(right) - to)
    return len(left) - at, len(right) - to


def _narrowed(left: Sequence[str], right: Sequence[str], span: _Bounds) -> Iterator[_Bounds]:
    """A span without what is equal within it."""
    a, b, c, d = span
    if min(b - a, d - c) == 0 or max(b - a, d - c) > REACH:
        yield span
        return
    matcher = SequenceMatcher(None, left[a:b], right[c:d], autojunk=False)
    for kind, i, j, k, m in matcher.get_opcodes():
        if kind != "equal":
            yield a + i, a + j, c + k, c + m


def _evenly_first(distance: int) -> Iterator[int]:
    """0 to a distance, its middle first: most often one token stands for another."""
    return iter(sorted(range(distance + 1), key=lambda skipped: abs(2 * skipped - distance)))
