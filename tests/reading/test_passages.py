import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.conversation import BadRow, Record
from burnish.reading.encodings import LongLine
from burnish.reading.passages import Piece, split_line, text_passages


def cut(text, limit, *, markdown=False):
    lines = text.splitlines(keepends=True)
    rows = text_passages(lines, "a", limit, markdown=markdown, encoding="UTF-8")
    return [(row.origin, row.fields["text"]) for row in rows]


def test_a_short_text_is_one_passage():
    assert cut("\n\n  one\ntwo\n\n\n\nthree \n", 100) == [("a:3", "  one\ntwo\n\nthree")]


def test_paragraphs_stay_whole_where_they_fit():
    text = "aaaa\n\nbbbb\n\ncc\ncc\n"
    assert cut(text, 10) == [("a:1", "aaaa\n\nbbbb"), ("a:5", "cc\ncc")]
    assert cut(text, 9) == [("a:1", "aaaa"), ("a:3", "bbbb"), ("a:5", "cc\ncc")]
    assert cut(text, 17) == [("a:1", "aaaa\n\nbbbb\n\ncc\ncc")]


def test_a_long_paragraph_is_cut_at_its_lines():
    assert cut("aaaa\nbbbb\ncccc\n", 10) == [("a:1", "aaaa\nbbbb"), ("a:3", "cccc")]


@pytest.mark.parametrize(
    ("line", "limit", "expected"),
    [
        ("一二。三四！五六？", 6, ["一二。三四！", "五六？"]),
        ("他说：“好。”然后走了。", 7, ["他说：“好。”", "然后走了。"]),
        ("好。“真好。”走了吧", 6, ["好。", "“真好。”", "走了吧"]),
        ("One two. Three four. Five", 12, ["One two.", " Three four.", " Five"]),
        ("It costs 3.50 euros today", 15, ["It costs 3.50 ", "euros today"]),
        ("一二三，四五六七", 6, ["一二三，", "四五六七"]),
        ("一二三四abcdef五", 7, ["一二三四", "abcdef五"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
    ],
)
def test_a_long_line_is_cut_at_sentences_or_clauses_or_words(line, limit, expected):
    pieces = list(split_line(Piece(line, "7"), limit))
    assert [piece.text for piece in pieces] == expected
    starts = [1 + sum(map(len, expected[:index])) for index in range(len(expected))]
    assert [piece.column for piece in pieces] == starts
    assert [piece.joint for piece in pieces] == ["\n", *[""] * (len(pieces) - 1)]


def test_passages_that_begin_on_one_line_are_told_apart_by_column():
    assert cut("zz\n\n一二。三四。五六。七八。\n九", 6) == [
        ("a:1", "zz"),
        ("a:3", "一二。三四。"),
        ("a:3:7", "五六。七八。"),
        ("a:4", "九"),
    ]


def test_a_lone_title_is_not_cut_off_from_a_long_paragraph():
    text = "标题\n\n" + "一二三四五六七八九。\n" * 5
    assert cut(text, 40)[0] == ("a:1", "标题\n\n" + "\n".join(["一二三四五六七八九。"] * 3))


def test_a_heading_of_markdown_goes_with_what_follows():
    text = "para para\n\n# Head\n\nbody body\nbody\n"
    assert cut(text, 24, markdown=True) == [
        ("a:1", "para para"),
        ("a:3", "# Head\n\nbody body\nbody"),
    ]
    assert cut(text, 24) == [("a:1", "para para\n\n# Head"), ("a:5", "body body\nbody")]


@pytest.mark.parametrize(("opening", "closing"), [("```py", "```"), ("~~~~", "~~~~~")])
def test_fenced_code_is_not_cut_where_it_fits(opening, closing):
    code = f"{opening}\na = 1\n\n\n# no heading\n  b = 2\n~~~\n{closing}"
    text = f"some words\nmore\n\n{code}\n\nafter\n"
    assert cut(text, len(code) + 4, markdown=True) == [
        ("a:1", "some words\nmore"),
        ("a:4", code),
        ("a:13", "after"),
    ]


def test_fenced_code_that_does_not_fit_is_cut_at_lines():
    text = "```\naaaa\n\nbbbb\ncccc\n```\n"
    assert cut(text, 10, markdown=True) == [
        ("a:1", "```\naaaa"),
        ("a:4", "bbbb\ncccc"),
        ("a:6", "```"),
    ]


def test_lines_that_can_not_be_read_are_bad_rows_between_passages():
    lines = ["one\n", "\udcff\n", "two\n", LongLine("thr", 2**30), "four"]
    assert list(text_passages(lines, "a", 100, markdown=False, encoding="GB18030")) == [
        Record({"text": "one"}, "a:1"),
        BadRow("a:2", "this row's bytes are not GB18030; see \\x in its text.", "\\xff"),
        Record({"text": "two"}, "a:3"),
        BadRow("a:4", "this row has 1,073,741,824 characters; the most are 67,108,864.", "thr"),
        Record({"text": "four"}, "a:5"),
    ]


LINES = st.lists(
    st.text(alphabet="ab 头，。.!?#`~\t", max_size=30) | st.sampled_from(["```", "# h", "", "~~~"])
)


@given(LINES, st.integers(5, 40), st.booleans())
def test_passages_lose_white_space_only_and_keep_to_the_limit(lines, limit, markdown):
    found = cut("".join(line + "\n" for line in lines), limit, markdown=markdown)
    assert "".join("".join(text for _, text in found).split()) == "".join("".join(lines).split())
    assert all(text.strip() and len(text) <= limit for _, text in found)
    assert len({origin for origin, _ in found}) == len(found)
    for origin, text in found:
        line, _, column = origin.removeprefix("a:").partition(":")
        rest = lines[int(line) - 1][int(column or 1) - 1 :].lstrip()
        if not column:
            rest = lines[int(line) - 1].lstrip()
        assert text.lstrip()[0] in rest
