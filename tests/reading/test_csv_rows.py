import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.conversation import BadRow, Record
from burnish.errors import DataError
from burnish.reading import encodings
from burnish.reading.csv_rows import csv_rows
from burnish.reading.encodings import LongLine


def rows_of(text, delimiter=","):
    return list(csv_rows(io.StringIO(text, newline=""), "a.csv", delimiter))


def error_of(lines):
    with pytest.raises(DataError) as caught:
        list(csv_rows(lines, "a.csv"))
    return str(caught.value)


def test_line_breaks_in_quoted_fields_do_not_shift_the_lines_after_them():
    assert rows_of('q,a\r\n"one\r\ntwo\r\nthree",1\r\n\r\nfour,2\r\n') == [
        Record({"q": "one\r\ntwo\r\nthree", "a": "1"}, "a.csv:2"),
        Record({"q": "four", "a": "2"}, "a.csv:6"),
    ]


def test_the_line_ends_of_old_macs_are_read():
    assert rows_of("q,a\r1,2\r3,4") == [
        Record({"q": "1", "a": "2"}, "a.csv:2"),
        Record({"q": "3", "a": "4"}, "a.csv:3"),
    ]


def test_rows_with_too_few_or_too_many_fields_are_bad_and_the_others_stay():
    assert rows_of("q,a\n1\n1,2,3\n4,5\n") == [
        BadRow("a.csv:2", "this row has 1 fields, the header 2.", "1"),
        BadRow("a.csv:3", "this row has 3 fields, the header 2.", "1,2,3"),
        Record({"q": "4", "a": "5"}, "a.csv:4"),
    ]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ('"open,2\n3,4\n', "unexpected end of data"),
        ('"closed"late,2\n', "',' expected after '\"'"),
    ],
)
def test_broken_quotes_are_refused_with_the_line_on_which_the_row_begins(row, why):
    assert error_of(io.StringIO("q,a\n1,2\n" + row)) == (
        f"a.csv:3: this row's quotes don't close or don't match ({why}).\n"
        '  Double a quote inside a quoted field ("") and close every quote.'
    )


def test_a_nul_byte_is_an_ordinary_character():
    assert rows_of("q,a\nx\0y,2\n") == [Record({"q": "x\0y", "a": "2"}, "a.csv:2")]


def test_a_field_longer_than_pythons_limit_is_read():
    long = "长" * 200_000
    assert rows_of(f"q,a\n{long},2\n")[0].fields["q"] == long


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ("q,q", "has column 'q' twice"),
        (",", "has column '' twice"),
        ('""', "is empty"),
        ("q,\udcff", "has bytes that are not UTF-8"),
    ],
)
def test_a_header_must_name_its_columns(header, what):
    assert error_of([header + "\n", "1,2\n"]) == (
        f"a.csv:1: the header {what}.\n  Give every column a name of its own."
    )


def test_a_tsv_is_split_at_tabs():
    assert rows_of("q\ta\n1,5\t2\n", "\t") == [Record({"q": "1,5", "a": "2"}, "a.csv:2")]


def test_a_row_with_bytes_of_another_encoding_is_bad_and_its_neighbours_stay():
    assert rows_of('q,a\n1,2\n"头\n\udcff",3\n4,5\n') == [
        Record({"q": "1", "a": "2"}, "a.csv:2"),
        BadRow("a.csv:3", "this row's bytes are not UTF-8; see \\x in its text.", "头\n\\xff,3"),
        Record({"q": "4", "a": "5"}, "a.csv:5"),
    ]


TOO_LONG = (
    "a.csv:3: this row has more than 10 characters.\n"
    "  A quote that does not close swallows the rows behind it: look for one there."
)


def test_an_open_quote_is_refused_before_it_has_swallowed_the_file(monkeypatch):
    monkeypatch.setattr(encodings, "MAX_ROW_CHARS", 10)
    taken = []

    def lines():
        for line in ["q,a\n", "1,2\n", '"open,2\n', "3,4\n", "5,6\n", "7,8\n"]:
            taken.append(line)
            yield line

    assert error_of(lines()) == TOO_LONG
    assert taken[-1] == "3,4\n"


def test_a_line_that_was_too_long_to_hold_is_refused(monkeypatch):
    monkeypatch.setattr(encodings, "MAX_ROW_CHARS", 10)
    assert error_of(["q,a\n", "1,2\n", LongLine("3", 11)]) == TOO_LONG


@given(st.text(max_size=80))
def test_no_text_crashes_the_reader(text):
    try:
        rows = rows_of("q,a\n" + text)
    except DataError:
        return
    assert len({row.origin for row in rows}) == len(rows)


FIELDS = st.text(alphabet='ab,"\n\r\t 头\0', max_size=6)


@given(st.lists(st.tuples(FIELDS, FIELDS), max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_what_was_written_is_read_with_the_lines_on_which_it_stands(rows, end):
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["q", "a"])
    starts = []
    for row in rows:
        starts.append(len(file.getvalue().replace("\r\n", "\n").replace("\r", "\n").split("\n")))
        writer.writerow(row)
    found = rows_of(file.getvalue())
    assert [tuple(row.fields.values()) for row in found] == rows
    assert [row.origin for row in found] == [f"a.csv:{start}" for start in starts]


def told_of(text, delimiter=","):
    told = []
    lines = io.StringIO(text, newline="")
    rows = list(csv_rows(lines, "a.csv", delimiter, tell=told.append))
    return rows, told


def as_csv(rows, delimiter=","):
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows(rows)
    return stream.getvalue()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_quote_that_closes_many_rows_later_is_told_with_its_line(end):
    lines = ["q,a", "q1,a1", 'q2,"a2', *(f"q{n},a{n}" for n in range(3, 40)), 'q40,a40"', "q41,a41"]
    rows, told = told_of(end.join(lines) + end)
    assert [row.origin for row in rows] == ["a.csv:2", "a.csv:3", "a.csv:42"]
    assert told == [
        "warning: a.csv:3: a quoted field that opens here goes over 38 line ends and seems to "
        "hold rows of its own. If a quote is not closed there, these rows are lost in it."
    ]


def test_the_line_of_the_field_is_told_and_not_that_of_the_row():
    text = 'q,i,a\n"one\ntwo","x\n1,2,3\n4,5,6\n7,8,9",a\n'
    assert told_of(text)[1][0].startswith("warning: a.csv:3: a quoted field that opens here goes")


def test_swallowed_rows_may_have_empty_fields_within():
    rows, told = told_of('q,i,a\nq1,"i1,a1\nq2,,a2\nq3,"",a3\nq4,i4,a4"\n')
    assert isinstance(rows[0], BadRow)
    assert len(told) == 1


PROSE = [f"Line {n}, which goes on, as lines do; and then it ends." for n in range(200)]
ONE_COMMA = [f"In the year {n}, nothing happened." for n in range(200)]
CODE = [
    line
    for n in range(50)
    for line in (f"def f{n}(a, b):", f"    x, y = a, b + {n}", "    print(x,y)", "")
]
COLUMN = [f"item{n}," for n in range(200)]
LISTING = [f"  'k{n}',{n}" for n in range(200)]
EXAMPLE = ["name,remark", *(f'n{n},"said ""{n}"" twice"' for n in range(200))]


@pytest.mark.parametrize("answer", [PROSE, ONE_COMMA, CODE, COLUMN, LISTING, EXAMPLE])
@pytest.mark.parametrize("num_columns", [2, 3, 4])
def test_long_answers_that_are_quoted_well_are_not_told(answer, num_columns):
    row = [*["q"] * (num_columns - 1), "\n".join(answer)]
    text = as_csv([[f"c{n}" for n in range(num_columns)], row, row])
    rows, told = told_of(text)
    assert [row.fields[f"c{num_columns - 1}"] for row in rows] == ["\n".join(answer)] * 2
    assert told == []


def test_a_file_of_one_column_has_no_rows_to_swallow():
    assert told_of('text\n"a\nb\nc\nd\ne"\n')[1] == []


@given(
    st.integers(2, 4),
    st.integers(4, 30),
    st.data(),
    st.sampled_from([",", "\t"]),
)
def test_every_quote_that_swallows_four_plain_rows_is_told(num_columns, num_rows, data, delimiter):
    field = st.text("abc好 .", min_size=1, max_size=8).map(str.strip).filter(bool)
    body = [
        delimiter.join(data.draw(field) for _ in range(num_columns)) for _ in range(num_rows + 1)
    ]
    head, _, tail = body[0].rpartition(delimiter)
    body[0], body[-1] = f'{head}{delimiter}"{tail}', f'{body[-1]}"'
    header = delimiter.join(f"c{n}" for n in range(num_columns))
    rows, told = told_of("\n".join([header, *body]) + "\n", delimiter)
    assert len(rows) == 1
    assert [text.split(": ")[1] for text in told] == ["a.csv:2"]
