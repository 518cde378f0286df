import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning.files import read_records, read_text
from burnish.conversation import BadRow, Record
from burnish.errors import DataError
from burnish.recipe import Source


def rows_of(tmp_path, name, content, **settings):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_records(Source(path=str(path), **settings)))


def error_of(tmp_path, name, content):
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path, name, content)
    return str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("gb18030", "gb18030"),
        ("utf-16", "utf-16"),
    ],
)
def test_a_csv_is_read_in_its_encoding(tmp_path, encoding, found):
    text = "问,答\n头痛怎么办？,多休息。\n"
    rows = rows_of(tmp_path, "a.csv", text.encode(encoding))
    assert rows == [Record({"问": "头痛怎么办？", "答": "多休息。"}, "a.csv:2")]
    assert read_text(tmp_path / "a.csv") == (text, found)


def test_an_encoding_other_than_utf8_is_told(tmp_path, capsys):
    rows_of(tmp_path, "a.csv", "问,答\n头痛,休息\n".encode("gb18030"))
    assert capsys.readouterr().err == "a.csv: read as gb18030\n"
    rows_of(tmp_path, "b.csv", "问,答\n头痛,休息\n")
    assert capsys.readouterr().err == ""


def test_a_file_in_no_known_encoding_is_refused_with_line_and_byte(tmp_path):
    assert error_of(tmp_path, "a.csv", b"q,a\n\xff\xff,1\n") == (
        "a.csv:2: this file is neither UTF-8 nor GB18030: byte 0xff at position 4 can't be read.\n"
        "  Save the file as UTF-8; some rows may mix encodings."
    )


def test_utf8_with_one_broken_byte_is_not_read_as_gb18030_gibberish(tmp_path):
    good = "q,a\n" + "你好,你好\n" * 4  # 16 characters beyond ASCII, 4 + 4 * 14 bytes
    content = good.encode() + b"\xe4\xbd,\xba\xc3\n"
    assert content.decode("gb18030")  # which would have passed
    assert error_of(tmp_path, "a.csv", content) == (
        "a.csv:6: this file is UTF-8 only up to here: byte 0xe4 at position 60 can't be read.\n"
        "  Save the file as UTF-8; some rows may mix encodings."
    )


def test_a_utf16_file_that_is_cut_in_half_a_character_is_refused(tmp_path):
    assert error_of(tmp_path, "a.csv", "q,a\n你,好\n".encode("utf-16")[:-1]) == (
        "a.csv:2: this file is no UTF-16, though it begins like it: byte 0x0a at position 16 "
        "can't be read.\n  Save the file as UTF-8; some rows may mix encodings."
    )


@given(st.text(alphabet=st.characters(codec="gb18030", exclude_characters="\r\n"), max_size=40))
def test_gb18030_text_is_read_as_written_or_refused_and_never_crashes(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("encodings") / "a.csv"
    path.write_bytes(text.encode("gb18030"))
    try:
        found, encoding = read_text(path)
    except DataError:
        return
    if encoding == "gb18030":
        assert found == text


def test_line_breaks_in_quoted_fields_do_not_shift_the_lines_after_them(tmp_path):
    rows = rows_of(tmp_path, "a.csv", 'q,a\r\n"one\r\ntwo\r\nthree",1\r\n\r\nfour,2\r\n')
    assert rows == [
        Record({"q": "one\r\ntwo\r\nthree", "a": "1"}, "a.csv:2"),
        Record({"q": "four", "a": "2"}, "a.csv:6"),
    ]


def test_a_csv_with_the_line_ends_of_old_macs_is_read(tmp_path):
    assert rows_of(tmp_path, "a.csv", "q,a\r1,2\r") == [Record({"q": "1", "a": "2"}, "a.csv:2")]


def test_rows_with_too_few_or_too_many_fields_are_bad_and_the_others_stay(tmp_path):
    assert rows_of(tmp_path, "a.csv", "q,a\n1\n1,2,3\n4,5\n") == [
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
def test_broken_quotes_are_refused_with_the_line_on_which_the_row_begins(tmp_path, row, why):
    assert error_of(tmp_path, "a.csv", "q,a\n1,2\n" + row) == (
        f"a.csv:3: this row's quotes don't close or don't match ({why}).\n"
        '  Double a quote inside a quoted field ("") and close every quote.'
    )


def test_a_nul_byte_in_a_csv_is_an_ordinary_character(tmp_path):
    assert rows_of(tmp_path, "a.csv", "q,a\nx\0y,2\n") == [
        Record({"q": "x\0y", "a": "2"}, "a.csv:2")
    ]


def test_a_field_longer_than_pythons_limit_is_read(tmp_path):
    long = "长" * 200_000
    assert rows_of(tmp_path, "a.csv", f"q,a\n{long},2\n")[0].fields["q"] == long


@pytest.mark.parametrize(
    ("header", "what"), [("q,q", "has column 'q' twice"), (",", "has column '' twice")]
)
def test_a_header_must_name_its_columns(tmp_path, header, what):
    assert error_of(tmp_path, "a.csv", header + "\n1,2\n") == (
        f"a.csv:1: the header {what}.\n  Give every column a name of its own."
    )


def test_a_tsv_is_split_at_tabs(tmp_path):
    assert rows_of(tmp_path, "a.tsv", "q\ta\n1,5\t2\n") == [
        Record({"q": "1,5", "a": "2"}, "a.tsv:2")
    ]


def test_records_of_a_json_list_bear_the_line_on_which_they_begin(tmp_path):
    text = '[\n {"q": "1",\n  "a": "2"},\n\n {"q": "3"}, {"q": "4"}\n]\n'
    assert rows_of(tmp_path, "a.json", text) == [
        Record({"q": "1", "a": "2"}, "a.json:2"),
        Record({"q": "3"}, "a.json:5"),
        Record({"q": "4"}, "a.json:5:14"),
    ]


def test_rows_of_a_json_list_on_one_line_are_told_apart_by_column(tmp_path):
    rows = rows_of(tmp_path, "a.json", '[{"q": 1}, {"q": 2}, 3]')
    assert [row.origin for row in rows] == ["a.json:1", "a.json:1:12", "a.json:1:22"]
    assert rows[2] == BadRow("a.json:1:22", "a row is an object; found int.", "3")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson"])
def test_json_lines_are_read_under_any_name(tmp_path, name):
    assert rows_of(tmp_path, name, '{"q": 1}\r\n\r\n{"q": "x\u2028y"}\r\n') == [
        Record({"q": 1}, f"{name}:1"),
        Record({"q": "x\u2028y"}, f"{name}:3"),
    ]


def test_a_json_list_named_jsonl_is_read(tmp_path):
    assert rows_of(tmp_path, "a.jsonl", '[\n{"q": 1}\n]\n') == [Record({"q": 1}, "a.jsonl:2")]


def test_broken_json_lines_are_bad_and_the_lines_after_them_are_read(tmp_path):
    digits = "1" * 5000
    lines = ['{"q": 1}', "{broken", '{"q": 1, "q": 2}', "[" * 100_000, "[1]", '{"q": 2}']
    rows = rows_of(tmp_path, "a.jsonl", "\n".join(lines) + f'\n{{"q": {digits}}}\n')
    assert rows[0] == Record({"q": 1}, "a.jsonl:1")
    assert [(row.origin, row.reason) for row in rows[1:5]] == [
        (
            "a.jsonl:2",
            "this is not JSON: Expecting property name enclosed in double quotes at column 2.",
        ),
        ("a.jsonl:3", "this JSON can't be read: the key 'q' stands twice in one object."),
        ("a.jsonl:4", "this JSON is nested too deeply."),
        ("a.jsonl:5", "a row is an object; found list."),
    ]
    assert rows[5] == Record({"q": 2}, "a.jsonl:6")
    assert rows[6].reason.startswith("this JSON can't be read: Exceeds the limit (4300 digits)")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[{"q": 1},\n{"q" 2}]', "a.json:2: this is not JSON: Expecting ':' delimiter at column 6"),
        (
            '[{"q": 1},\n{"q": 2},\n',
            "a.json:3: the list of rows is not closed; the file seems cut off",
        ),
        ('[{"q": 1}]\n[{"q": 2}]', "a.json:1:10: the list of rows ends here, but the file goes on"),
        (
            '[\n{"q": 1, "q": 2}]',
            "a.json:2: this JSON can't be read: the key 'q' stands twice in one object",
        ),
        ("[" * 100_000, "a.json:1: this JSON is nested too deeply"),
    ],
)
def test_a_json_list_that_is_not_whole_is_refused(tmp_path, text, problem):
    assert error_of(tmp_path, "a.json", text) == (
        f"{problem}.\n  Mend the file there; what follows can't be told apart."
    )


@pytest.mark.parametrize("text", ['{\n"data": [1]\n}', '{"data": [\n1]}'])
def test_one_object_over_several_lines_is_refused(tmp_path, text):
    assert error_of(tmp_path, "a.json", text) == (
        "a.json: this file is neither a list of rows nor a row on each line: its first object goes "
        "over several lines.\n"
        "  Write the rows as a JSON list, [{...}, {...}], or one object a line."
    )


@given(
    st.lists(st.dictionaries(st.text(max_size=4), st.text(max_size=8), max_size=3), max_size=6),
    st.sampled_from([None, 1]),
)
def test_a_json_list_gives_back_its_records_with_origins_of_their_own(
    tmp_path_factory, records, indent
):
    path = tmp_path_factory.mktemp("lists") / "a.json"
    path.write_text(json.dumps(records, indent=indent))
    rows = list(read_records(Source(path=str(path))))
    assert [row.fields for row in rows] == records
    assert len({row.origin for row in rows}) == len(records)


def test_parquet_rows_bear_their_number(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"q": ["一", "二"], "a": ["1", None]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert list(read_records(Source(path=str(tmp_path / "a.parquet")))) == [
        Record({"q": "一", "a": "1"}, "a.parquet:1"),
        Record({"q": "二", "a": None}, "a.parquet:2"),
    ]


def test_a_broken_parquet_file_is_refused(tmp_path):
    message = error_of(tmp_path, "a.parquet", b"PAR1xxx")
    assert message.startswith("a.parquet: this is no whole parquet file: Parquet file size is 7")
    assert message.endswith("\n  Write or fetch it again.")


def test_a_folder_of_save_to_disk_is_read_by_split(tmp_path):
    from datasets import Dataset, DatasetDict

    train = Dataset.from_list([{"q": "1"}, {"q": "2"}])
    DatasetDict(train=train, test=Dataset.from_list([{"q": "3"}])).save_to_disk(tmp_path / "set")
    train.save_to_disk(tmp_path / "single")
    read = [
        list(read_records(Source(path=str(tmp_path / name), split=split)))
        for name, split in [("set", "train"), ("set", "test"), ("single", "train")]
    ]
    assert read[0] == [Record({"q": "1"}, "set:1"), Record({"q": "2"}, "set:2")]
    assert read[1] == [Record({"q": "3"}, "set:1")]
    assert [row.origin for row in read[2]] == ["single:1", "single:2"]
    with pytest.raises(DataError) as caught:
        list(read_records(Source(path=str(tmp_path / "set"), split="dev")))
    assert str(caught.value) == (
        f"{tmp_path}/set: there is no split 'dev' in this folder; it holds train, test.\n"
        "  Name one of them as the split of this source."
    )


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        list(read_records(Source(path=str(tmp_path))))
    assert caught.value.where == str(tmp_path)
    assert caught.value.problem.startswith("this folder was not written by save_to_disk: ")
    assert caught.value.remedy == "Name a file, or a folder written by Dataset.save_to_disk."


def test_a_missing_file_is_named_with_the_place_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        list(read_records(Source(path="no/such.csv")))
    assert str(caught.value) == (
        f"no/such.csv: there is no such file (looked for {tmp_path}/no/such.csv).\n"
        "  Paths in a recipe are relative to the folder in which you run burnish."
    )


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a.xlsx", "burnish can't read files of the kind '.xlsx'."),
        ("data", "this file's name has no ending that says what kind it is."),
    ],
)
def test_a_file_of_an_unknown_kind_is_refused(tmp_path, name, problem):
    assert error_of(tmp_path, name, "x") == (
        f"{tmp_path}/{name}: {problem}\n"
        "  It reads .csv, .tsv, .json, .jsonl, .ndjson, .parquet, and folders written by "
        "save_to_disk."
    )


def test_the_limit_counts_rows_from_the_start(tmp_path):
    rows = rows_of(tmp_path, "a.jsonl", '{"q": 1}\n{bad\n{"q": 3}\n', limit=2)
    assert [row.origin for row in rows] == ["a.jsonl:1", "a.jsonl:2"]
