import gzip
import io
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.errors import DataError
from burnish.reading import archives
from burnish.reading.archives import (
    RawFile,
    check_zip,
    is_hidden,
    kind_of,
    members,
    raw_file,
    seekable,
)

MIB = 2**20


def write_zip(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def content_of(raw):
    with raw.open() as stream:
        return stream.read()


def contents(path, gib=1.0):
    return {raw.name: content_of(raw) for raw in members(path, path.name, gib)}


def error_of(path, gib=1.0):
    with pytest.raises(DataError) as caught:
        contents(path, gib)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("A.CSV", ".csv"), ("a.jsonl.gz", ".jsonl"), ("a.gz", ""), ("a.tar.gz", ".tar"), ("a", "")],
)
def test_the_kind_of_a_file_is_its_ending_without_gz(name, kind):
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    ("name", "hidden"),
    [("a/b.csv", False), (".git/b.csv", True), ("a/.b.csv", True), ("a/~$b.docx", True),
     ("__MACOSX/a/b.csv", True), ("a.b/c..csv", False)],
)  # fmt: skip
def test_files_that_are_there_for_programs_are_hidden(name, hidden):
    assert is_hidden(name) == hidden


def test_a_plain_file_is_opened_as_often_as_wanted(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"one")
    raw = raw_file(tmp_path / "a.csv", "name.csv", 1.0)
    assert (raw.name, raw.kind) == ("name.csv", ".csv")
    assert [content_of(raw), content_of(raw)] == [b"one", b"one"]


def test_a_gzip_file_is_unpacked_while_it_is_read(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"one") + gzip.compress(b"two"))
    raw = raw_file(path, "a.csv.gz", 1.0)
    assert (raw.kind, content_of(raw)) == (".csv", b"onetwo")


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(b"x" * 999, mtime=0)[:-9], b"\x1f\x8b\x08"]
)
def test_a_broken_gzip_file_is_refused(tmp_path, content):
    (tmp_path / "a.csv.gz").write_bytes(content)
    with pytest.raises(DataError, match="this archive is broken: "):
        content_of(raw_file(tmp_path / "a.csv.gz", "a.csv.gz", 1.0))


def test_a_file_that_may_not_be_read_is_named(tmp_path):
    with pytest.raises(DataError) as caught:
        raw_file(tmp_path, "a.csv", 1.0).open()
    assert str(caught.value) == (
        "a.csv: this file can't be opened: Is a directory.\n  Check who may read it."
    )


def test_the_files_of_a_zip_come_by_name_and_hidden_ones_do_not(tmp_path):
    files = {"b.csv": "2", "a/a.csv": "1", ".x/c.csv": "3", "__MACOSX/a.csv": "4", "e/": ""}
    assert contents(write_zip(tmp_path / "x.zip", files)) == {
        "x.zip/a/a.csv": b"1",
        "x.zip/b.csv": b"2",
    }


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_may_be_packed_in_other_ways(tmp_path, compression):
    path = write_zip(tmp_path / "x.zip", {"a.csv": "头痛" * 99}, compression)
    assert contents(path) == {"x.zip/a.csv": ("头痛" * 99).encode()}


@pytest.mark.parametrize(
    "name", ["../../evil.csv", "a/../../evil.csv", "/root.csv", "..\\evil.csv", "C:/evil.csv", ".."]
)
def test_a_name_that_leads_out_of_the_archive_is_refused(tmp_path, name):
    path = write_zip(tmp_path / "x.zip", {"good.csv": "1", name: "2"})
    assert error_of(path) == (
        f"x.zip: the name of a file in this archive, {name!r}, leads out of it.\n"
        "  Pack it again with names that begin with no / and no ../, or unpack it yourself."
    )


def test_detours_in_a_name_are_left_out(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"./a.csv": "1", "b/../c.csv": "2", "d\\e.csv": "3"})
    assert list(contents(path)) == ["x.zip/a.csv", "x.zip/c.csv", "x.zip/d/e.csv"]
    path = write_zip(tmp_path / "x.zip", {"./a.csv": "1", "a.csv": "2"})
    assert error_of(path).startswith("x.zip/a.csv: two files in this archive have this one name.")


def test_links_in_a_zip_are_no_data_and_told(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.csv": b"q\n1\n"})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("b.csv")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    told = []
    assert [raw.name for raw in members(path, "x.zip", 1.0, told.append)] == ["x.zip/a.csv"]
    assert told == ["x.zip: skipped 1 links in this archive (b.csv)"]


def test_hidden_files_of_a_zip_are_told(tmp_path):
    told = []
    names = ["a.csv", ".b.csv", "__MACOSX/a.csv", "c/~$d.docx", "./.git/e.csv"]
    path = write_zip(tmp_path / "x.zip", dict.fromkeys(names, "1"))
    assert [raw.name for raw in members(path, "x.zip", 1.0, told.append)] == ["x.zip/a.csv"]
    assert told == [
        "x.zip: skipped 4 hidden files in this archive (.b.csv, __MACOSX/a.csv, c/~$d.docx, ...)"
    ]


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b.csv", ".", "..", ".h", ""]), min_size=1, max_size=4).map(
            "/".join
        ),
        max_size=4,
        unique=True,
    )
)
def test_every_file_of_a_zip_is_read_told_or_refused(tmp_path_factory, names):
    names = [name for name in names if name and not name.endswith("/")]
    path = write_zip(tmp_path_factory.mktemp("zip") / "x.zip", dict.fromkeys(names, "1"))
    told = []
    try:
        read = [raw.name for raw in members(path, "x.zip", 1.0, told.append)]
    except DataError:
        return
    hidden = int(told[0].split()[2]) if told else 0
    assert len(read) + hidden == len(names)
    assert all("/../" not in name and "//" not in name for name in read)


@pytest.mark.parametrize("encoding", ["gb18030", "utf-8"])
def test_a_chinese_name_that_is_not_marked_as_utf8_is_read(tmp_path, encoding):
    path = write_zip(tmp_path / "x.zip", {"aaaa.csv": "1"})
    name = {"gb18030": "问答", "utf-8": "\u00e9\u00e8"}[encoding]
    assert len(name.encode(encoding)) == 4
    path.write_bytes(path.read_bytes().replace(b"aaaa", name.encode(encoding)))
    assert list(contents(path)) == [f"x.zip/{name}.csv"]


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.csv": b"\0" * (64 * MIB)})
    assert path.stat().st_size < 70_000
    assert error_of(path) == (
        "x.zip: this archive unpacks to more than 200 times its size, as those do that are made "
        "to fill a machine.\n  If it is right, unpack it yourself and name what comes out; "
        "data.max_unpacked_gib limits the size alone."
    )


def test_a_gzip_bomb_is_refused_while_it_is_unpacked(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"\0" * (64 * MIB)))
    with raw_file(tmp_path / "a.csv.gz", "a.csv.gz", 1.0).open() as stream:
        assert stream.read(15 * MIB) == b"\0" * (15 * MIB)
        with pytest.raises(DataError, match=r"^a.csv.gz: this archive unpacks to more than 200 ti"):
            stream.read(2 * MIB)


def test_little_that_is_packed_well_is_no_bomb(tmp_path):
    content = b"\0" * (16 * MIB)
    assert contents(write_zip(tmp_path / "x.zip", {"a.csv": content})) == {"x.zip/a.csv": content}


def test_an_archive_of_more_than_the_limit_is_refused_with_the_setting(tmp_path):
    files = {"a.csv": b"1" * 600, "b.csv": b"2" * 600}
    message = ": this archive unpacks to more than 9.31323e-07 GiB.\n  If it is right, raise "
    gib = 1000 / 2**30
    assert error_of(write_zip(tmp_path / "x.zip", files), gib) == (
        "x.zip" + message + "data.max_unpacked_gib."
    )
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"1" * 1001))
    with pytest.raises(DataError, match=r"than 9.31323e-07 GiB"):
        content_of(raw_file(tmp_path / "a.csv.gz", "a.csv.gz", gib))


def test_a_zip_that_lies_about_sizes_gives_no_more_than_it_declares(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.csv": b"\0" * MIB})
    data = path.read_bytes()
    lie = data.replace(MIB.to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(lie)
    assert error_of(path).startswith("x.zip/a.csv: this archive is broken: Bad CRC-32")


def test_a_zip_of_very_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    path = write_zip(tmp_path / "x.zip", {"a": "", "b": "", "c": ""})
    assert error_of(path) == (
        "x.zip: this archive holds 3 files, more than 2.\n  Unpack it yourself and name the folder."
    )


@pytest.mark.parametrize("name", ["in.zip", "in.jsonl.gz", "in.TAR"])
def test_an_archive_within_an_archive_is_refused(tmp_path, name):
    assert error_of(write_zip(tmp_path / "x.zip", {name: "1"})) == (
        f"x.zip/{name}: this is an archive within an archive.\n  Unpack it first."
    )


def test_an_encrypted_member_is_refused(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.csv": "1"})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag in the member's own head
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and in the list of members
    path.write_bytes(data)
    assert error_of(path) == (
        "x.zip/a.csv: this file in the archive is encrypted.\n  Pack it without a password."
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.csv", "1")
        archive.writestr("a.csv", "2")
    assert error_of(tmp_path / "x.zip") == (
        "x.zip/a.csv: two files in this archive have this one name.\n"
        "  Give every file a name of its own."
    )


def test_what_is_no_zip_is_refused(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"no zip")
    assert error_of(tmp_path / "x.zip") == (
        "x.zip: this archive is broken: File is not a zip file.\n  Pack or fetch it again."
    )


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_archive_never_crashes(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    kind = data.draw(st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
    path = write_zip(folder / "x.zip", {"a.csv": "头痛" * 50, "b.csv": "1,2\n" * 50}, kind)
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        for raw in members(path, "x.zip", 1.0):
            content_of(raw)
    except DataError:
        pass
    (folder / "a.gz").write_bytes(bytes(content))
    with pytest.raises(DataError):
        content_of(raw_file(folder / "a.gz", "a.gz", 1.0))


def test_a_stream_that_can_only_go_forward_is_copied():
    forward = io.BytesIO(b"abc")
    forward.seekable = lambda: False
    with seekable(RawFile("a", "", lambda: forward, 1.0)) as copy:
        assert copy is not forward
        assert (copy.seek(1), copy.read()) == (1, b"bc")
    assert forward.closed
    back = io.BytesIO(b"abc")
    assert seekable(RawFile("a", "", lambda: back, 1.0)) is back


def test_a_file_in_the_format_of_zip_is_held_to_the_limits(tmp_path):
    bomb = write_zip(tmp_path / "a.docx", {"x": b"\0" * (64 * MIB)})
    with bomb.open("rb") as stream, pytest.raises(DataError, match="than 200 times its size"):
        check_zip(stream, "a.docx", 1.0)
    good = write_zip(tmp_path / "b.docx", {"x": b"1"})
    with good.open("rb") as stream:
        check_zip(stream, "b.docx", 1.0)
        assert stream.tell() == 0
