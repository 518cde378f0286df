import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from burnish.conversation import BadRow
from burnish.errors import DataError
from burnish.reading import encodings
from burnish.reading.archives import RawFile
from burnish.reading.encodings import (
    Encoding,
    LongLine,
    find_encoding,
    is_unreadable,
    lines,
    long_row,
    pieces,
    unreadable_row,
)


def raw(content):
    return RawFile("a.csv", ".csv", lambda: io.BytesIO(content), 1.0)


def read(content):
    file = raw(content)
    return list(lines(pieces(file, find_encoding(file))))


@pytest.mark.parametrize(
    ("encoding", "title"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "UTF-8"),
        ("gb18030", "GB18030"),
        ("utf-16", "UTF-16"),
        ("utf-32", "UTF-32"),
    ],
)
def test_a_file_is_read_in_its_encoding(encoding, title):
    content = "问,答\n头痛怎么办？,多休息。😀\n".encode(encoding)
    found = find_encoding(raw(content))
    assert (found.name, found.title, found.is_mixed) == (encoding, title, False)
    assert read(content) == ["问,答\n", "头痛怎么办？,多休息。😀\n"]


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_utf16_is_believed_in_both_byte_orders(mark):
    order = "utf-16-le" if mark == b"\xff\xfe" else "utf-16-be"
    assert read(mark + "头\n痛".encode(order)) == ["头\n", "痛"]


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["q,a\none,two\n", "问,答\n一二三四,多休息, 喝水。\n1,2\n", "\n"])
def test_utf16_without_a_mark_is_told_by_the_zeros_of_ascii(name, text):
    assert find_encoding(raw(text.encode(name))) == Encoding(name)
    assert read(text.encode(name)) == text.splitlines(keepends=True)


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 100 + b"\n" + b"\0" * 99,
        b"a\0b,c\0d\n" * 9,  # all zeros on one side, but the line feed is no character of UTF-16
        b"question,answer\nwhy\0,because\n\0\n",
        "q,a\n".encode("utf-32-le"),
    ],
)
def test_other_files_with_zeros_are_no_utf16(content):
    assert find_encoding(raw(content)) == Encoding("utf-8")


def test_a_file_in_no_known_encoding_is_refused_with_line_and_byte():
    with pytest.raises(DataError) as caught:
        find_encoding(raw(b"q,a\n\xff\xff,1\n"))
    assert str(caught.value) == (
        "a.csv:2: most lines of this file are neither UTF-8 nor GB18030; the first byte that is "
        "not UTF-8 is 0xff at position 4.\n  Save the file as UTF-8; some rows may mix encodings."
    )


def test_a_broken_line_among_lines_of_utf8_keeps_its_bytes_and_its_neighbours():
    broken = b"\xe4\xbd,\xba\xc3\n"
    content = "你好\n".encode() * 2 + broken + b"after\n"
    assert broken.decode("gb18030")  # which would have passed
    assert read(content) == ["你好\n", "你好\n", "\udce4\udcbd,\udcba\udcc3\n", "after\n"]


def test_lines_that_are_cut_within_a_character_are_still_utf8_if_much_before_was():
    line = ("头痛" * 8).encode() + b"\xe5\xa4\n"  # 16 characters, then two bytes of three
    assert find_encoding(raw(line * 3)) == Encoding("utf-8")
    with pytest.raises(DataError):
        find_encoding(raw(line[3:] * 3))  # 15 characters prove nothing


def test_a_line_of_utf8_in_a_file_of_gb18030_is_not_read_as_gibberish():
    gb18030 = "头痛怎么办\n".encode("gb18030")
    other = "你好你好\n".encode()
    assert other.decode("gb18030") == "浣犲ソ浣犲ソ\n"
    found = find_encoding(raw(gb18030 * 3 + other))
    assert found == Encoding("gb18030", is_mixed=True)
    kept = "\udce4\udcbd\udca0\udce5\udca5\udcbd" * 2 + "\n"
    assert read(gb18030 * 2 + b"ascii\n" + gb18030 + other) == [
        *["头痛怎么办\n"] * 2,
        "ascii\n",
        "头痛怎么办\n",
        kept,
    ]


def test_broken_bytes_of_gb18030_and_utf16_are_kept_too():
    gb18030 = "怎么办\n".encode("gb18030")
    assert read(gb18030 * 2 + b"\xff\xfe\n") == ["怎么办\n", "怎么办\n", "\udcff\udcfe\n"]
    utf16 = "头\n痛".encode("utf-16")
    assert read(utf16[:-1]) == ["头\n", "\udcdb"]  # U+75DB cut in half


def test_an_encoding_is_found_across_the_ends_of_pieces(monkeypatch):
    monkeypatch.setattr(encodings, "PIECE", 3)
    assert find_encoding(raw("a头痛b怎么办".encode())) == Encoding("utf-8")
    assert find_encoding(raw("a头痛b怎么办".encode("gb18030"))) == Encoding("gb18030")


def test_lines_end_at_line_feeds_and_carriage_returns_alone_and_keep_their_ends():
    expected = ["a\r\n", "b\r", "c\n", "\n", "d\u2028e\x0cf"]
    assert read("a\r\nb\rc\n\nd\u2028e\x0cf".encode()) == expected


def test_a_line_that_is_too_long_is_skipped_and_the_next_is_read(monkeypatch):
    monkeypatch.setattr(encodings, "MAX_ROW_CHARS", 10)
    monkeypatch.setattr(encodings, "PIECE", 4)
    monkeypatch.setattr(encodings, "NUM_SHOWN", 3)
    assert read(b"short\n123456789\n1234567890\nafter\n1234567890123") == [
        "short\n",
        "123456789\n",
        LongLine("123", 11),
        "after\n",
        LongLine("123", 13),
    ]
    assert long_row("a:3", LongLine("123", 11)) == BadRow(
        "a:3", "this row has 11 characters; the most are 10.", "123"
    )


@example(text="0123456\n", piece=8, limit=7)
@example(text="a\r\nb\rc", piece=2, limit=7)
@given(
    text=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\ufeff")),
    piece=st.integers(1, 9),
    limit=st.integers(1, 12),
)
def test_lines_are_those_of_the_text_however_it_is_cut(text, piece, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encodings, "PIECE", piece)
        patch.setattr(encodings, "MAX_ROW_CHARS", limit)
        found = list(lines(pieces(raw(text.encode()), Encoding("utf-8"))))
    expected = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)
    shown = [line.length if isinstance(line, LongLine) else line for line in found]
    assert shown == [line if len(line) <= limit else len(line) for line in expected]


@given(st.text(alphabet=st.characters(codec="gb18030", exclude_characters="\r\n"), max_size=40))
def test_text_of_gb18030_is_read_as_written_or_as_utf8_and_never_crashes(text):
    file = raw(text.encode("gb18030"))
    try:
        encoding = find_encoding(file)
    except DataError:
        return
    found = "".join(pieces(file, encoding))
    if encoding == Encoding("gb18030"):
        assert found == text


@given(st.binary(max_size=80))
def test_bytes_that_are_read_in_an_encoding_can_be_told_from_it(content):
    try:
        encoding = find_encoding(raw(content))
    except DataError:
        return
    text = "".join(pieces(raw(content), encoding))
    if encoding.name == "utf-8":
        assert text.encode("utf-8", "surrogateescape") == content
        assert is_unreadable(text) == (content.decode("utf-8", "ignore").encode() != content)


def test_an_unreadable_row_shows_its_bytes():
    assert not is_unreadable("头痛")
    assert is_unreadable("头\udcff")
    assert unreadable_row("a:2", "头\udcff\udc0a,x", "UTF-8") == BadRow(
        "a:2", "this row's bytes are not UTF-8; see \\x in its text.", "头\\xff\\x0a,x"
    )


def test_a_byte_order_mark_at_the_start_of_a_line_goes():
    assert read("a\n\ufeffb\nc\ufeffd\n\ufeff".encode()) == ["a\n", "b\n", "c\ufeffd\n", ""]


@given(
    st.lists(st.text("ab", max_size=9), max_size=9),
    st.lists(st.sampled_from(["\n", "\r", "\r\n"]), min_size=9, max_size=9),
    st.integers(1, 5),
)
def test_lines_of_every_end_are_whole_however_they_are_cut(texts, ends, piece):
    content = "".join(text + end for text, end in zip(texts, ends, strict=False))
    expected = io.StringIO(content, newline="").readlines()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encodings, "PIECE", piece)
        assert read(content.encode()) == expected
