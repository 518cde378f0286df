"""Texts -> passages for continued pre-training.

A passage holds whole paragraphs where they fit, else whole lines, else whole sentences. Between
passages white space is lost, and nothing else. Its origin names the line, page or paragraph on
which it begins (`a.txt:12`, `a.pdf:p3`, `a.docx:¶12`); where another passage begins there before
it, the column follows (`a.txt:12:1801`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from burnish.conversation import BadRow, Record
from burnish.reading.encodings import LongLine, is_unreadable, long_row, unreadable_row

MIN_SHARE = 0.1
"""A passage of less than this share of the limit, such as a lone title, is cut off only in need."""

SAME_LINE, NEXT_LINE, NEXT_PARAGRAPH = "", "\n", "\n\n"
"""What stands between a piece and the one before."""
FREE, BEHIND_A_HEADING, IN_A_FENCE = 0, 1, 2
"""How much a piece belongs to the one before."""

_SENTENCE_END = re.compile(r"""[。！？!?]["'”’」』）)]*|\.["'”’)]*(?=\s)""")
_MOST_CLOSERS = 4
_CLAUSE_END = re.compile(r"[；，、：]|\s+")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}(\s|$)")


@dataclass(frozen=True, slots=True)
class Piece:
    """A line, or a part of one that is too long for a passage.

    Attributes:
        text: without its line end.
        place: the line, page or paragraph that it begins on.
        column: where in the place it begins, from 1.
        joint: what stands between it and the piece before.
        glue: how much it belongs to the piece before.
    """

    text: str
    place: str
    column: int = 1
    joint: str = NEXT_LINE
    glue: int = FREE


def passages(pieces: Iterable[Piece | BadRow], name: str, limit: int) -> Iterator[Record | BadRow]:
    """Passages of at most `limit` characters; no piece may be longer.

    Args:
        pieces: the text in order. A row that can't be read ends a passage.
        name: what stands before the place in an origin.
        limit: the most characters of a passage.
    """
    last_place = ""
    for group in _groups(pieces, limit):
        if isinstance(group, BadRow):
            yield group
            continue
        first = next((piece for piece in group if piece.text.strip()), None)
        if first is not None:
            column = f":{first.column}" if first.place == last_place else ""
            last_place = first.place
            text = "".join(piece.joint + piece.text for piece in group)
            text = text.lstrip() if group[0].joint == SAME_LINE else text.strip("\n")
            yield Record({"text": text.rstrip()}, f"{name}:{first.place}{column}")


def _groups(pieces: Iterable[Piece | BadRow], limit: int) -> Iterator[list[Piece] | BadRow]:
    held: list[Piece] = []
    length = 0
    for piece in pieces:
        if isinstance(piece, BadRow):
            yield held
            yield piece
            held, length = [], 0
            continue
        while held and length + len(piece.joint) + len(piece.text) > limit:
            cut = _best_cut([*held, piece], limit)
            yield held[:cut]
            held = held[cut:]
            length = _length(held)
        length += len(piece.text) + (len(piece.joint) if held else 0)
        held.append(piece)
    yield held


def _length(pieces: list[Piece]) -> int:
    size = sum(len(piece.joint) + len(piece.text) for piece in pieces)
    return size - len(pieces[0].joint) if pieces else 0


def _best_cut(pieces: list[Piece], limit: int) -> int:
    """How many pieces to cut off the front: the last of the best places; not all of them."""
    best, best_rank, before = 1, -9, 0
    for index, piece in enumerate(pieces):
        is_small = before < MIN_SHARE * limit
        rank = -piece.glue if piece.glue else (0 if is_small else 1 + len(piece.joint))
        if index and rank >= best_rank:
            best, best_rank = index, rank
        before += len(piece.joint) + len(piece.text)
    return best


def text_passages(
    lines: Iterable[str | LongLine], name: str, limit: int, *, markdown: bool, encoding: str
) -> Iterator[Record | BadRow]:
    """The passages of a plain text; in Markdown, headings and fenced code are kept together.

    Args:
        lines: each with its line end.
        name: what stands before the line in an origin.
        limit: the most characters of a passage.
        markdown: whether `#` begins a heading and three backticks begin code.
        encoding: what the bytes should have been, for the reason of a BadRow.
    """
    return passages(_of_lines(lines, name, limit, markdown, encoding), name, limit)


def _of_lines(
    lines: Iterable[str | LongLine], name: str, limit: int, markdown: bool, encoding: str
) -> Iterator[Piece | BadRow]:
    joint, glue, fence = NEXT_LINE, FREE, ""
    for number, line in enumerate(lines, start=1):
        if isinstance(line, LongLine):
            yield long_row(f"{name}:{number}", line)
        elif is_unreadable(line):
            yield unreadable_row(f"{name}:{number}", line.rstrip("\r\n"), encoding)
        elif not fence and not line.strip():
            joint = NEXT_PARAGRAPH
        else:
            text = line.rstrip("\r\n")
            yield from split_line(Piece(text, str(number), 1, joint, glue), limit)
            joint = NEXT_LINE
            if markdown:
                fence = _fence_behind(text, fence)
                glue = BEHIND_A_HEADING if _HEADING.match(text) else FREE
                glue = IN_A_FENCE if fence else glue


def _fence_behind(line: str, fence: str) -> str:
    """The fence that is open behind a line: the marks that began it, or nothing."""
    found = _FENCE.match(line)
    if not fence:
        return found[1] if found else ""
    closes = found and found[1].startswith(fence) and not line[found.end() :].strip()
    return "" if closes else fence


def split_line(line: Piece, limit: int) -> Iterator[Piece]:
    """A line as it is, or cut into pieces of at most `limit` characters."""
    if len(line.text) <= limit:
        yield line
        return
    start = 0
    while start < len(line.text):
        end = _cut_within(line.text, start, limit)
        text, column = line.text[start:end], line.column + start
        if start == 0:
            yield Piece(text, line.place, column, line.joint, line.glue)
        else:
            yield Piece(text, line.place, column, SAME_LINE)
        start = end


def _cut_within(text: str, start: int, limit: int) -> int:
    """Where to cut a line that goes on from `start`: behind a sentence, a clause or a word."""
    end = start + limit
    if end >= len(text):
        return len(text)
    window = text[start : end + _MOST_CLOSERS]  # a quote that closes goes with its sentence
    for pattern in (_SENTENCE_END, _CLAUSE_END):
        ends = [found.end() for found in pattern.finditer(window) if found.end() <= limit]
        if ends and ends[-1] > MIN_SHARE * limit:
            return start + ends[-1]
    for place in range(end, start + 1, -1):
        if not (_is_of_a_word(text[place - 1]) and _is_of_a_word(text[place])):
            return place
    return end


def _is_of_a_word(character: str) -> bool:
    """Whether it makes words with its neighbours, as Han characters don't."""
    return character.isalnum() and character < "\u2e80"
