import gzip
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import docx
import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.conversation import BadRow, Record
from burnish.errors import DataError
from burnish.reading import encodings
from burnish.reading.archives import raw_file
from burnish.reading.encodings import find_encoding, pieces
from burnish.reading.files import READERS, name_of, read_records
from burnish.recipe import Source

KINDS = "It reads .csv, .tsv, .json, .jsonl, .ndjson, .parquet, .txt, .md, .docx, .pdf"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / ".cache")


def read(path, *, gib=1.0, name=None, **settings):
    return list(read_records(Source(path=str(path), **settings), max_unpacked_gib=gib, name=name))


def rows_of(tmp_path, name, content, **settings):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path, **settings)


def error_of(*arguments, **settings):
    with pytest.raises(DataError) as caught:
        rows_of(*arguments, **settings)
    return str(caught.value)


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.csv", "问,答\n头痛怎么办？,多休息。\n", 2),
        ("a.tsv", "问\t答\n\n头痛怎么办？\t多休息。\n", 3),
        ("a.jsonl", '\n{"问": "头痛怎么办？", "答": "多休息。"}\n', 2),
        ("a.json", '[\n\n{"问": "头痛怎么办？",\n "答": "多休息。"}]', 3),
    ],
)
def test_rows_are_read_in_any_encoding_and_bear_their_line(tmp_path, encoding, name, text, line):
    assert rows_of(tmp_path, name, text.encode(encoding)) == [
        Record({"问": "头痛怎么办？", "答": "多休息。"}, f"{name}:{line}")
    ]


def test_an_encoding_other_than_utf8_is_told(tmp_path, capsys):
    rows_of(tmp_path, "a.csv", "问,答\n头痛,休息\n".encode("gb18030"))
    assert capsys.readouterr().err == "a.csv: read as gb18030\n"
    rows_of(tmp_path, "b.csv", "问,答\n头痛,休息\n")
    assert capsys.readouterr().err == ""


def test_a_row_of_another_encoding_is_bad_and_the_others_are_read(tmp_path):
    good, bad = "你好,你好\n".encode(), "怎么,怎么\n".encode("gb18030")
    rows = rows_of(tmp_path, "a.csv", b"q,a\n" + good * 2 + bad + good)
    assert [row.origin for row in rows if isinstance(row, Record)] == [
        "a.csv:2", "a.csv:3", "a.csv:5",
    ]  # fmt: skip
    assert rows[2] == BadRow(
        "a.csv:4",
        "this row's bytes are not UTF-8; see \\x in its text.",
        "\\xd4\\xf5ô,\\xd4\\xf5ô",  # two bytes of each four are UTF-8 by chance
    )


def test_a_file_in_no_known_encoding_is_refused_with_line_and_byte(tmp_path):
    assert error_of(tmp_path, "a.csv", b"q,a\n\xff\xff,1\n").startswith(
        "a.csv:2: most lines of this file are neither UTF-8 nor GB18030"
    )


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson"])
def test_json_lines_and_lists_are_read_under_any_name(tmp_path, name):
    assert rows_of(tmp_path, name, '{"q": 1}\r\n\r\n{"q": "x\u2028y"}\r\n') == [
        Record({"q": 1}, f"{name}:1"),
        Record({"q": "x\u2028y"}, f"{name}:3"),
    ]
    assert rows_of(tmp_path, name, '\n[\n{"q": 1}\n]\n') == [Record({"q": 1}, f"{name}:3")]


def test_records_of_a_json_list_bear_the_line_on_which_they_begin(tmp_path):
    text = '[\n {"q": "1",\n  "a": "2"},\n\n {"q": "3"}, {"q": "4"}\n]\n'
    assert rows_of(tmp_path, "a.json", text) == [
        Record({"q": "1", "a": "2"}, "a.json:2"),
        Record({"q": "3"}, "a.json:5"),
        Record({"q": "4"}, "a.json:5:14"),
    ]


def test_broken_json_lines_are_bad_and_the_lines_after_them_are_read(tmp_path):
    lines = ['{"q": 1}', "{broken", '{"q": 1, "q": 2}', "[" * 100_000, "[1]", '{"q": 2}']
    rows = rows_of(tmp_path, "a.jsonl", "\n".join(lines))
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


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[{"q": 1},\n{"q" 2}]', "a.json:2: this is not JSON: Expecting ':' delimiter at column 6"),
        (
            '[{"q": 1},\n{"q": 2},\n',
            "a.json:3: the list of rows is not closed; the file seems cut off",
        ),
        ('[{"q": 1}]\n[{"q": 2}]', "a.json:1:10: the list of rows ends here, but the file goes on"),
        ("[" * 100_000, "a.json:1: this JSON is nested too deeply"),
    ],
)
def test_a_json_list_that_is_not_whole_is_refused(tmp_path, text, problem):
    assert error_of(tmp_path, "a.json", text) == (
        f"{problem}.\n  Mend the file there; what follows can't be told apart."
    )


def test_one_object_over_several_lines_is_refused(tmp_path):
    assert error_of(tmp_path, "a.json", '{"data": [\n1]}').startswith(
        "a.json: this file is neither a list of rows nor a row on each line"
    )


def test_plain_texts_are_cut_into_passages(tmp_path):
    text = "# One\n\n" + "word " * 19 + "\n# Two\n\nmore\n"
    assert [row.origin for row in rows_of(tmp_path, "a.md", text, passage_chars=110)] == [
        "a.md:1", "a.md:4",
    ]  # fmt: skip
    assert rows_of(tmp_path, "a.txt", "one\r\n\r\ntwo\r\n") == [
        Record({"text": "one\n\ntwo"}, "a.txt:1")
    ]


def documents(folder):
    """A Word document and a pdf with an empty page."""
    document = docx.Document()
    document.add_paragraph("words")
    document.save(folder / "a.docx")
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.write(folder / "b.pdf")


def test_documents_are_read_also_out_of_archives(tmp_path):
    (tmp_path / "in").mkdir()
    documents(tmp_path / "in")
    found = [("a.docx", "¶1"), ("b.pdf", "p1")]
    assert [row.origin for row in read(tmp_path / "in")] == [f"in/{f}:{at}" for f, at in found]
    packed = {name: (tmp_path / "in" / name).read_bytes() for name, _ in found}
    path = write_zip(tmp_path / "x.zip", packed)
    rows = read(path)
    assert [row.origin for row in rows] == [f"x.zip/{f}:{at}" for f, at in found]
    assert rows[0] == Record({"text": "words"}, "x.zip/a.docx:¶1")
    [row] = rows_of(tmp_path, "a.docx.gz", gzip.compress(packed["a.docx"]))
    assert row == Record({"text": "words"}, "a.docx.gz:¶1")


def test_a_word_document_that_unpacks_to_too_much_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.docx", {"word/document.xml": b" " * (64 * 2**20)})
    with pytest.raises(DataError, match=r"^a.docx: this archive unpacks to more than 200 times"):
        read(path)


def test_parquet_rows_bear_their_number(tmp_path):
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"q": ["一", "二"], "a": ["1", None]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[1] == Record({"q": "二", "a": None}, "a.parquet:2")
    packed = gzip.compress((tmp_path / "a.parquet").read_bytes())
    assert rows_of(tmp_path, "b.parquet.gz", packed)[0].origin == "b.parquet.gz:1"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_gzip_files_are_read_as_what_they_hold(tmp_path, name):
    text = {"a.csv": "q\n1\n", "a.jsonl": '\n{"q": "1"}'}[name]
    assert rows_of(tmp_path, f"{name}.GZ", gzip.compress(text.encode())) == [
        Record({"q": "1"}, f"{name}.GZ:2")
    ]


def test_all_readable_files_of_a_zip_are_read(tmp_path, capsys):
    files = {"b/b.jsonl": '{"q": "2"}', "a.csv": "q\n1\n", "c.png": "", "d": "", ".e.csv": "q"}
    assert read(write_zip(tmp_path / "x.zip", files)) == [
        Record({"q": "1"}, "x.zip/a.csv:2"),
        Record({"q": "2"}, "x.zip/b/b.jsonl:1"),
    ]
    assert capsys.readouterr().err == (
        "x.zip: skipped 1 hidden files in this archive (.e.csv)\n"
        "x.zip: skipped 2 files that burnish takes for no data (.png, no ending)\n"
    )


def test_a_zip_bomb_is_refused(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.csv": b"\0" * (64 * 2**20)})
    with pytest.raises(DataError, match=r"than 200 times its size.*\n.*data\.max_unpacked_gib"):
        read(path)
    with pytest.raises(
        DataError, match=r"more than 0\.05 GiB.\n  If it is right, raise data\.max_"
    ):
        read(path, gib=0.05)


def test_a_folder_is_read_whole_in_order_with_paths_in_the_origins(tmp_path, capsys):
    folder = tmp_path / "set"
    rows_of(folder.parent, "set/b.csv", "q\n2\n")
    for name in ("a", ".git"):
        (folder / name).mkdir()
    rows_of(folder / "a", "z.jsonl", '{"q": "1"}')
    rows_of(folder / ".git", "no.csv", "q\n9\n")
    rows_of(folder, ".no.csv", "q\n9\n")
    rows_of(folder, "c.jsonl.gz", gzip.compress(b'{"q": "3"}'))
    write_zip(folder / "d.zip", {"e.csv": "q\n4\n", "f.jpg": ""})
    (folder / "g.png").write_bytes(b"")
    assert read(folder) == [
        Record({"q": "1"}, "set/a/z.jsonl:1"),
        Record({"q": "2"}, "set/b.csv:2"),
        Record({"q": "3"}, "set/c.jsonl.gz:1"),
        Record({"q": "4"}, "set/d.zip/e.csv:2"),
    ]
    assert capsys.readouterr().err == (
        "set: skipped 2 files that burnish takes for no data (.jpg, .png)\n"
    )


@pytest.mark.parametrize("name", [None, "given"])
def test_a_pattern_is_read_in_order_with_paths_in_the_origins(tmp_path, name):
    (tmp_path / "set" / "in").mkdir(parents=True)
    for file in ("b.csv", "a.csv", "in/c.csv", "in/d.tsv"):
        (tmp_path / "set" / file).write_text("q\n1\n")
    first = name or "set"
    rows = {
        pattern: [row.origin for row in read(tmp_path / "set" / pattern, name=name)]
        for pattern in ("*.csv", "**/*.csv", "?n/[cd].*", "*")
    }
    assert rows == {
        "*.csv": [f"{first}/a.csv:2", f"{first}/b.csv:2"],
        "**/*.csv": [f"{first}/{file}.csv:2" for file in ("a", "b", "in/c")],
        "?n/[cd].*": [f"{first}/in/c.csv:2", f"{first}/in/d.tsv:2"],
        "*": [f"{first}/a.csv:2", f"{first}/b.csv:2"],
    }


def test_a_readme_beside_the_data_is_no_data_unless_texts_are_wanted(tmp_path, capsys):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "README.zh-CN.md").write_text("words")
    (tmp_path / "set" / "a.jsonl").write_text('{"text": "more"}')
    assert [row.origin for row in read(tmp_path / "set")] == ["set/a.jsonl:1"]
    assert capsys.readouterr().err == (
        "set: skipped 1 files that burnish takes for no data (README.zh-CN.md)\n"
    )
    assert [row.origin for row in read(tmp_path / "set", layout="text")] == [
        "set/README.zh-CN.md:1",
        "set/a.jsonl:1",
    ]
    assert read(tmp_path / "set" / "README.zh-CN.md") == [
        Record({"text": "words"}, "README.zh-CN.md:1")
    ]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    assert rows_of(tmp_path, "a[1].csv", "q\n1\n") == [Record({"q": "1"}, "a[1].csv:2")]


@pytest.mark.parametrize("below", ["", "*.csv", "x/*/y*"])
def test_a_folder_or_pattern_without_a_readable_file_is_refused(tmp_path, below):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(b"")
    path = f"{tmp_path}/set/{below}" if below else f"{tmp_path}/set"
    with pytest.raises(DataError) as caught:
        read(path)
    assert (caught.value.where, caught.value.problem) == (
        path,
        "there is no file in it that burnish reads.",
    )
    assert caught.value.remedy.startswith(KINDS)


def test_a_source_is_named_after_its_file_or_folder(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path / "set")
    names = {
        "data/a.csv": "a.csv", "data": "data", "data/": "data", "data/*.csv": "data",
        "data/**/b/*": "data", ".": "set", "*.csv": "set", "..": tmp_path.name,
        "hf:owner/name": "owner/name", "/x/b\udcff.csv": "b\\udcff.csv",
    }  # fmt: skip
    assert {path: name_of(Source(path=path)) for path in names} == names


def test_origins_begin_with_the_name_that_is_given(tmp_path):
    (tmp_path / "a.csv").write_text("q\n1\n")
    assert read(tmp_path / "a.csv", name="x/a.csv")[0].origin == "x/a.csv:2"
    path = write_zip(tmp_path / "x.zip", {"a.csv": "q\n1\n"})
    assert read(path, name="new/x.zip")[0].origin == "new/x.zip/a.csv:2"


def test_a_folder_of_save_to_disk_is_read_by_split(tmp_path):
    from datasets import Dataset, DatasetDict

    sets = DatasetDict(train=Dataset.from_list([{"q": "1"}]), test=Dataset.from_list([{"q": "2"}]))
    sets.save_to_disk(tmp_path / "set")
    assert read(tmp_path / "set") == [Record({"q": "1"}, "set:1")]
    assert read(tmp_path / "set", split="test") == [Record({"q": "2"}, "set:1")]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_of_the_hubs_layout_is_read_whole_or_as_a_stream(tmp_path, streaming):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text('{"q": "1"}\n{"q": "2"}\n')
    path = f"hf:{tmp_path}/set"
    assert read(path, streaming=streaming, limit=1) == [Record({"q": "1"}, f"{tmp_path}/set:1")]
    assert read(path, streaming=streaming, name="set")[1] == Record({"q": "2"}, "set:2")


def test_a_missing_file_is_named_with_the_place_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        read("no/such.csv")
    assert str(caught.value) == (
        f"no/such.csv: there is no such file (looked for {tmp_path}/no/such.csv).\n"
        "  Paths in a recipe are relative to the folder in which you run burnish."
    )


def test_a_link_to_nowhere_and_a_pipe_are_refused_by_name_and_told_of_in_a_folder(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("q,a\n1,2\n")
    (tmp_path / "gone.csv").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.csv")
    for name, what in (("gone.csv", "link that leads to no file"), ("pipe.csv", "pipe or device")):
        with pytest.raises(DataError) as caught:
            read(tmp_path / name)
        assert str(caught.value) == (
            f"{tmp_path}/{name}: this is a {what}.\n  Name the file that holds the data."
        )
    assert [row.fields for row in read(tmp_path)] == [{"q": "1", "a": "2"}]
    assert capsys.readouterr().err == (
        f"{tmp_path.name}: skipped what is neither file nor folder, such as broken links: "
        "gone.csv, pipe.csv\n"
    )


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a.xlsx", "burnish can't read files of the kind '.xlsx'."),
        ("a.tar.gz", "burnish can't read files of the kind '.tar'."),
        ("data", "this file's name has no ending that says what kind it is."),
        ("data.gz", "this file's name has no ending that says what kind it is."),
    ],
)
def test_a_file_of_an_unknown_kind_is_refused(tmp_path, name, problem):
    assert error_of(tmp_path, name, "x") == (
        f"{tmp_path}/{name}: {problem}\n"
        f"  {KINDS}, with .gz behind or in a .zip, folders of them, and folders written by "
        "save_to_disk."
    )


def test_the_limit_counts_rows_from_the_start(tmp_path):
    rows = rows_of(tmp_path, "a.jsonl", '{"q": 1}\n{bad\n{"q": 3}\n', limit=2)
    assert [row.origin for row in rows] == ["a.jsonl:1", "a.jsonl:2"]


def test_an_empty_file_has_no_rows(tmp_path):
    for kind in (".csv", ".tsv", ".json", ".jsonl", ".txt", ".md"):
        assert rows_of(tmp_path, f"a{kind}", b"") == []


def test_a_line_that_is_too_long_is_a_bad_row_and_the_next_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(encodings, "MAX_ROW_CHARS", 300)
    content = '{"q": 1}\n"' + "x" * 2_000_000 + '"\n{"q": 2}\n'
    assert rows_of(tmp_path, "a.jsonl", content) == [
        Record({"q": 1}, "a.jsonl:1"),
        BadRow(
            "a.jsonl:2",
            "this row has 2,000,003 characters; the most are 300.",
            '"' + "x" * 199,
        ),
        Record({"q": 2}, "a.jsonl:3"),
    ]
    assert error_of(tmp_path, "a.csv", "q\n1\n" + "x" * 400).startswith(
        "a.csv:3: this row has more than 300 characters."
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux tells the memory there")
@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".json", ".txt"])
def test_a_line_of_a_gibibyte_takes_far_less_memory(tmp_path, kind):
    path = tmp_path / f"a{kind}.gz"
    block = bytes(range(97, 123)) * 40_330  # 1 MiB
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(
            {".jsonl": b"{}\n", ".csv": b"q\n", ".json": b'[\n{}, "', ".txt": b"one\n"}[kind]
        )
        for _ in range(1024):
            file.write(block)
        file.write(b'\n{"q": 1}\n')
    code = (
        "import sys\nfrom burnish.reading.files import read_records\n"
        "from burnish.recipe import Source\nfrom burnish.errors import DataError\n"
        "import burnish.reading.unpacking as a\na.MAX_RATIO = 10**6\n"
        "try:\n"
        "    for row in read_records(Source(path=sys.argv[1]), max_unpacked_gib=4):\n"
        "        print(row.origin)\n"
        "except DataError as error: print(error.where)\n"
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    *origins, peak_kib = done.stdout.split()
    assert (
        origins
        == {
            ".jsonl": [f"{path.name}:{line}" for line in (1, 2, 3)],
            ".csv": [f"{path.name}:2"],
            ".json": [f"{path.name}:{line}" for line in (2, 2)],
            ".txt": [f"{path.name}:{line}" for line in (1, 2, 3)],
        }[kind]
    )
    assert int(peak_kib) < 500 * 1024


@settings(max_examples=300)
@given(
    st.sampled_from([*READERS, ".csv.gz", ".zip"]),
    st.binary(max_size=80) | st.text(alphabet='[{"q":1},\n\r\\é头', max_size=80).map(str.encode),
)
def test_no_bytes_crash_a_reader(tmp_path_factory, kind, content):
    path = tmp_path_factory.mktemp("bytes") / f"a{kind}"
    path.write_bytes(content)
    try:
        rows = read(path)
    except DataError:
        return
    assert all(isinstance(row, Record | BadRow) for row in rows)
    assert len({row.origin for row in rows}) == len(rows)


JSON_LINES = st.lists(
    st.binary(max_size=20).map(lambda b: b.replace(b"\n", b""))
    | st.dictionaries(st.text(max_size=3), st.text(max_size=9), max_size=2).map(
        lambda value: json.dumps(value, ensure_ascii=False).encode()
    ),
    max_size=8,
)


@given(JSON_LINES)
def test_each_line_of_json_lines_becomes_a_record_or_a_bad_row(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_bytes(b'{"first": 1}\n' + b"\n".join(lines))
    try:
        rows = read(path)
    except DataError:
        return  # in no known encoding
    numbers = {int(row.origin.removeprefix("a.jsonl:")) for row in rows}
    assert len(numbers) == len(rows)
    raw = raw_file(path, "a.jsonl", 1.0)
    found = [line.removeprefix("\ufeff") for line in pieces(raw, find_encoding(raw))]
    filled = {number for number, line in enumerate(found, start=1) if line.strip()}
    assert numbers == filled


def test_what_burnish_wrote_itself_is_no_data_and_that_is_said_once(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / "runs" / name / "1-clean").mkdir(parents=True)
        (tmp_path / "runs" / name / "1-clean" / "conversations.jsonl").write_text('{"q": 1}\n')
        (tmp_path / "runs" / name / "manifest.json").write_text('{"stages": {"clean": {}}}')
    (tmp_path / "raw.csv").write_text("q,a\n1,2\n")
    assert read(tmp_path, name="d") == [Record({"q": "1", "a": "2"}, "d/raw.csv:2")]
    assert capsys.readouterr().err == (
        "d: skipped what burnish wrote itself in the run folders "
        f"{tmp_path}/runs/a, {tmp_path}/runs/b\n"
    )


def test_remarks_go_where_the_caller_wants_them(tmp_path, capsys):
    (tmp_path / "a.csv").write_bytes("问,答\n头痛,休息\n".encode("gb18030"))
    (tmp_path / "b.png").write_bytes(b"")
    told = []
    list(read_records(Source(path=str(tmp_path)), max_unpacked_gib=1, name="d", tell=told.append))
    assert told == [
        "d/a.csv: read as gb18030",
        "d: skipped 1 files that burnish takes for no data (.png)",
    ]
    assert capsys.readouterr().err == ""


def test_a_name_that_is_no_text_is_shown_with_escapes(tmp_path):
    path = tmp_path / "a\udcff.jsonl"
    path.write_text('{"q": 1}\n')
    assert read(path) == [Record({"q": 1}, "a\\udcff.jsonl:1")]
    assert read(tmp_path, name="d") == [Record({"q": 1}, "d/a\\udcff.jsonl:1")]
    path.write_text("[")
    with pytest.raises(DataError, match=r"^d/a\\udcff\.jsonl:1: the list of rows is not closed"):
        read(tmp_path, name="d")
    with pytest.raises(DataError, match=r"^b\\udcff\.jsonl: there is no such file \(looked for /"):
        read("b\udcff.jsonl")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_rows_end_at_every_kind_of_line_end(tmp_path, name, end):
    text = end.join(['{"q": "1"}', "", '{"q": "2"}', "{broken", '{"q": "3"}'])
    rows = rows_of(tmp_path, name, text)
    assert [row for row in rows if isinstance(row, Record)] == [
        Record({"q": "1"}, f"{name}:1"),
        Record({"q": "2"}, f"{name}:3"),
        Record({"q": "3"}, f"{name}:5"),
    ]
    assert [row.text for row in rows if isinstance(row, BadRow)] == ["{broken"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_lone_object_over_several_lines_is_refused_with_every_line_end(tmp_path, end):
    assert "its first object goes over several lines" in error_of(
        tmp_path, "a.json", end.join(["{", '"q": "1"', "}"])
    )


def test_files_put_together_keep_their_rows(tmp_path):
    line = '{"q": "1"}\n'.encode("utf-8-sig")
    assert rows_of(tmp_path, "a.jsonl", line * 3) == [
        Record({"q": "1"}, f"a.jsonl:{number}") for number in (1, 2, 3)
    ]
    text = b'q,a\n"1, 2",3\n' + '"4, 5",6\n'.encode("utf-8-sig")
    assert rows_of(tmp_path, "a.csv", text) == [
        Record({"q": "1, 2", "a": "3"}, "a.csv:2"),
        Record({"q": "4, 5", "a": "6"}, "a.csv:3"),
    ]


def test_a_quote_that_swallows_rows_is_told(tmp_path, capsys):
    rows_of(tmp_path, "a.csv", 'q,a\n1,"2\n3,4\n5,6\n7,8\n9,10"\n')
    assert capsys.readouterr().err.startswith("warning: a.csv:2: a quoted field that opens here")


def test_a_parquet_file_that_unpacks_to_too_much_is_refused(tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = [f"row {number} " + "x" * 2000 for number in range(1000)]
    parquet.write_table(pyarrow.table({"q": rows}), tmp_path / "a.parquet")
    assert len(read(tmp_path / "a.parquet")) == 1000
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.parquet", gib=2**-10)
    assert str(caught.value) == (
        "a.parquet: this file unpacks to more than 0.000976562 GiB.\n"
        "  If it is right, raise data.max_unpacked_gib."
    )
