import io
import sys

import docx
import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from burnish.conversation import BadRow, Record
from burnish.errors import DataError, MissingExtraError
from burnish.reading.documents import docx_passages, pdf_passages


def as_docx(fill):
    document = docx.Document()
    fill(document)
    stream = io.BytesIO()
    document.save(stream)
    return stream


def pdf_writer(*pages):
    """A pdf whose pages each hold lines of text; no lines make an empty page."""
    writer = pypdf.PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for lines in pages:
        page = writer.add_blank_page(300, 300)
        if lines:
            page[NameObject("/Resources")] = DictionaryObject(
                {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
            )
            content = DecodedStreamObject()
            shown = "".join(f"({line}) Tj 0 -20 Td " for line in lines)
            content.set_data(f"BT /F1 12 Tf 20 250 Td {shown} ET".encode())
            page[NameObject("/Contents")] = writer._add_object(content)
    return writer


def as_bytes(writer):
    stream = io.BytesIO()
    writer.write(stream)
    return stream


def test_paragraphs_of_a_word_document_make_passages_named_by_number():
    def fill(document):
        document.add_paragraph("第一段。")
        document.add_paragraph("")
        document.add_paragraph("第三段，\n第二行。")

    assert list(docx_passages(as_docx(fill), "a.docx", 100)) == [
        Record({"text": "第一段。\n\n第三段，\n第二行。"}, "a.docx:¶1")
    ]
    assert list(docx_passages(as_docx(fill), "a.docx", 11)) == [
        Record({"text": "第一段。"}, "a.docx:¶1"),
        Record({"text": "第三段，\n第二行。"}, "a.docx:¶3"),
    ]


def test_a_heading_of_a_word_document_goes_with_what_follows():
    def fill(document):
        document.add_paragraph("一二三四五。")
        document.add_heading("标题")
        document.add_paragraph("六七八九十。")

    assert [row.fields["text"] for row in docx_passages(as_docx(fill), "a", 12)] == [
        "一二三四五。",
        "标题\n\n六七八九十。",
    ]


def test_tables_of_a_word_document_are_read_in_their_place():
    def fill(document):
        document.add_paragraph("before")
        table = document.add_table(2, 3)
        for row, texts in enumerate([("a", "b", "c"), ("d", "merged", "")]):
            for cell, text in zip(table.rows[row].cells, texts, strict=True):
                cell.text = text
        table.cell(1, 1).merge(table.cell(1, 2))
        document.add_paragraph("after")

    assert list(docx_passages(as_docx(fill), "a", 1000)) == [
        Record({"text": "before\n\na | b | c\n\nd | merged\n\nafter"}, "a:¶1")
    ]


def test_pages_of_a_pdf_make_passages_named_by_page():
    stream = as_bytes(pdf_writer(["Page one.", "It goes on."], ["Page two."]))
    assert list(pdf_passages(stream, "a.pdf", 20)) == [
        Record({"text": "Page one."}, "a.pdf:p1"),
        Record({"text": "It goes on."}, "a.pdf:p1:11"),
        Record({"text": "Page two."}, "a.pdf:p2"),
    ]
    assert list(pdf_passages(stream, "a.pdf", 100)) == [
        Record({"text": "Page one.\nIt goes on.\nPage two."}, "a.pdf:p1")
    ]


def test_a_page_without_text_is_a_bad_row():
    stream = as_bytes(pdf_writer(["one"], [], ["three"]))
    assert list(pdf_passages(stream, "a.pdf", 100)) == [
        Record({"text": "one"}, "a.pdf:p1"),
        BadRow("a.pdf:p2", "no text on this page; it may be a scan.", ""),
        Record({"text": "three"}, "a.pdf:p3"),
    ]


def test_a_pdf_with_a_password_is_refused_and_one_without_is_read():
    writer = pdf_writer(["one"])
    writer.encrypt("secret", algorithm="RC4-128")
    with pytest.raises(DataError) as caught:
        list(pdf_passages(as_bytes(writer), "a.pdf", 100))
    assert str(caught.value) == ("a.pdf: this pdf is encrypted.\n  Save it without a password.")
    writer = pdf_writer(["one"])
    writer.encrypt("", "owner", algorithm="RC4-128")
    assert list(pdf_passages(as_bytes(writer), "a.pdf", 100)) == [
        Record({"text": "one"}, "a.pdf:p1")
    ]


@pytest.mark.parametrize(("read", "kind"), [(docx_passages, "docx"), (pdf_passages, "pdf")])
@pytest.mark.parametrize("content", [b"", b"%PDF-1.7\nbroken", b"PK\x03\x04broken"])
def test_a_broken_document_is_refused(read, kind, content):
    with pytest.raises(DataError) as caught:
        list(read(io.BytesIO(content), "a", 100))
    assert caught.value.problem.startswith(f"this is no {kind} that can be read: ")


@pytest.mark.parametrize(
    ("read", "module", "package"),
    [(docx_passages, "docx", "python-docx"), (pdf_passages, "pypdf", "pypdf")],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, read, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as caught:
        list(read(io.BytesIO(), "a", 100))
    assert str(caught.value) == (
        f"{package}: this step needs a package that is not installed.\n"
        "  Install it with: pip install 'burnish[documents]'"
    )


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_document_never_crashes(data):
    read, stream = data.draw(
        st.sampled_from(
            [
                (docx_passages, as_docx(lambda document: document.add_paragraph("one"))),
                (pdf_passages, as_bytes(pdf_writer(["one"], ["two"]))),
            ]
        )
    )
    content = bytearray(stream.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        rows = list(read(io.BytesIO(bytes(content)), "a", 100))
    except DataError:
        return
    assert all(isinstance(row, Record | BadRow) for row in rows)
