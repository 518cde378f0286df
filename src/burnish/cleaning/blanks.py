"""Blanks within and around the lines of a text; code and aligned tables keep theirs."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from itertools import pairwise

from burnish.cleaning.code_spans import outside_code

_WIDE_BLANK = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f]")
_RUN = re.compile(r"(?<=\S)(?:[ \t\u3000]{2,}|\u3000)(?=\S)")
_TABLE_ROW = re.compile(r"[ \t]*\|")
_EMPTY_LINES_AT_START = re.compile(r"\A(?:[^\S\n]*\n)+")


def squeeze_spaces(text: str) -> str:
    """Turns blanks within a line into one, keeps line breaks, trims the ends.

    A single tab stays, as tables have them. Rows of Markdown tables, lines of code and lines whose
    columns stand below one another keep their blanks. Lines keep their indentation to each other,
    the first too where the next is indented; the indentation that all share, and the ideographic
    blanks at the start of a Chinese paragraph, go.
    """
    has_runs = (
        "  " in text
        or "\t" in text
        or " \n" in text
        or "\u3000" in text
        or "\n\n\n" in text
        or not (text.isascii() or _WIDE_BLANK.search(text) is None)
    )
    if has_runs:
        text = outside_code(_trim_lines, text)
    text = _trim_start(text.rstrip()) if text[:1].isspace() else text.rstrip()
    return outside_code(_squeeze_lines, text) if has_runs and _RUN.search(text) else text


def _trim_start(text: str) -> str:
    text = textwrap.dedent(_EMPTY_LINES_AT_START.sub("", text))
    _, _, below = text.partition("\n")
    return text if below[:1] in (" ", "\t") else text.lstrip()


def _trim_lines(text: str) -> str:
    text = _WIDE_BLANK.sub(" ", text)
    text = re.sub(r"(\A|\n)[ \t]*\u3000[ \t\u3000]*", r"\1", text)
    text = re.sub(r"(?<![ \t\u3000])[ \t\u3000]++(?=\n)", "", text)
    return re.sub(r"\n{3,}", "\n\n", text)


def _squeeze_lines(text: str) -> str:
    lines = text.split("\n")
    kept = _aligned(lines) if len(lines) > 1 else ()
    return "\n".join(
        line if number in kept else _squeeze_line(line) for number, line in enumerate(lines)
    )


def _squeeze_line(line: str) -> str:
    if _TABLE_ROW.match(line):
        return line.replace("\u3000", " ")
    is_code = _RUN.search(line) and len(line) <= _LONGEST and _CODE.match(line)
    return line if is_code else _RUN.sub(" ", line)


_WORDS = (
    "if|elif|for|while|with|def|class|return|import|from|except|switch|case|function|func|fn|"
    "public|private|protected|static|const|final|let|var|auto|void|int|long|float|double|char|"
    "bool|boolean|String|struct|enum|typedef|using|package|async|await|yield|raise|throw"
)
_CODE = re.compile(
    r"""[ \t]*+(?:
    [a-z_$@][\w.$]*(?:\[[^\]]*\])?(?:[ \t]*:[ \t]*[\w.]+)?      # x  = 1, n: int   = 3
        (?:[ \t]{2,}(?:[-+*/%&|^:]|//)?=(?![=>])|[ \t]*(?:[-+*/%&|^:]|//)?=[ \t]{2,})[ -~\t]+$
    |[A-Za-z_$@][\w.$]*[ \t]*(?:[-+*/%&|^:]|//)?=(?![=>])[ -~\t]*[)\]};]$   # x = f(a,   b)
    |[!-~ \t]*[\d)\]}"';,{(:][ \t]{2,}(?:\#|//|/\*)[ ]          # f(x)  # why
    |(?:(?:WORDS|else|pass|break|continue)\b|[A-Za-z_][\w.]*[ \t]*=)      # x = y  # why
        [!-~ \t]*[ \t]{2,}(?:\#|//|/\*)[ ]
    |(?:WORDS)\b[ -~\t]*[(\[={;:][ -~\t]*[)}\]:;{,]$           # if (a  > b):
    |(?:WORDS)\b[ \t]+[\w*&]+[ \t]+[\w*&, \t]+;$              # static int   x;
    |(?:int|long|float|double|char|bool|auto|String|let|var)[ \t]+[\w*&, \t]+;$
    |[\w.]+\([ -~\t]*\)[;:{,]?$                              # print(a,   b)
    |[ -~\t]*(?:[)\]}"'];|\)[ ]?\{),?$                          # f(a,  b);
    |[}\])][ -~\t]*[{;,)]$|[\w.\#-]+[ \t]+\{$                    # } else  {
    |[a-z-]+:[ \t][ -~\t]*;$                                   # color:   red;
    |["'][^"']+["'][ \t]*(?::|=>)[ \t][ -~\t]*$               # "key":   1
    |(?:SELECT|INSERT|UPDATE|DELETE|CREATE|FROM|WHERE|JOIN|VALUES)\b[ -~\t]*$
    |\#(?:include|define|if|ifdef|ifndef|pragma)\b
    )""".replace("WORDS", _WORDS),
    re.VERBOSE | re.ASCII,
)
"""A line of code outside a fence, as far as one line tells."""
_LONGEST = 300
"""No line that is longer is looked at as code or as a row of a table."""


def _aligned(lines: list[str]) -> set[int]:
    """The numbers of the lines of a table without bars, whose columns stand below one another."""
    kept: set[int] = set()
    columns = [_columns(line) for line in lines]
    for number, (above, below) in enumerate(pairwise(columns)):
        if _stand_below(above, below):
            kept |= {number, number + 1}
    return kept


def _stand_below(above: dict[tuple[str, int], int], below: dict[tuple[str, int], int]) -> bool:
    """Whether two lines share two columns, or one that blanks were put in to reach.

    Words of equal length with two blanks behind them may share a column by chance.
    """
    shared = above.keys() & below.keys()
    if len({place for edge, place in shared if edge == "begin"}) > 1:
        return True
    return any(above[c] != below[c] or above[c] > 2 for c in shared)


def _columns(line: str) -> dict[tuple[str, int], int]:
    """Where the cells of a line begin, where numbers end, and how wide the gaps before them are.

    A gap behind the end of a sentence makes no cell. The number of tabs counts as a column.
    """
    if len(line) > _LONGEST or not _RUN.search(line) or _TABLE_ROW.match(line):
        return {}
    found: dict[tuple[str, int], int] = {}
    gaps = [gap for gap in _RUN.finditer(line) if line[gap.start() - 1] not in ".!?。！？"]
    for gap in gaps:
        begin, width = _width(line[: gap.end()]), _width(gap[0])
        found["begin", begin] = width
        number = _NUMBER.match(line, gap.end())
        if number:
            found["end", begin + len(number[0])] = width
    if line.count("\t") > 1:
        found["tabs", line.count("\t")] = _LONGEST
    return found


_NUMBER = re.compile(r"[-+$¥€£(]?\d[\d.,]*[%)]?(?=\s|\Z)")


def _width(text: str) -> int:
    """The columns that a text takes on a terminal, tabs as eight blanks at most."""
    text = text.expandtabs(8)
    if text.isascii():
        return len(text)
    return len(text) + sum(unicodedata.east_asian_width(c) in "WF" for c in text)
