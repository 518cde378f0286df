"""Word documents and pdf files -> passages."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from burnish.conversation import BadRow, Record
from burnish.errors import DataError, MissingExtraError, first_line
from burnish.reading.passages import (
    BEHIND_A_HEADING,
    FREE,
    NEXT_LINE,
    NEXT_PARAGRAPH,
    Piece,
    passages,
    split_line,
)

if TYPE_CHECKING:
    from docx.table import Table
    from docx.text.paragraph import Paragraph
    from pypdf import PdfReader

_HEADING_STYLE = re.compile(r"heading|title|标题", re.IGNORECASE)


def docx_passages(stream: BinaryIO, name: str, limit: int) -> Iterator[Record | BadRow]:
    """The passages of a Word document: its paragraphs and tables, without headers and notes.

    Raises:
        MissingExtraError: python-docx is not installed.
        DataError: the document is broken or encrypted.
    """
    try:
        import docx
    except ImportError:
        raise MissingExtraError("python-docx", "documents") from None
    try:
        blocks = [
            text
            for block in docx.Document(stream).iter_inner_content()
            for text in _texts_of_block(block)
        ]
    except Exception as error:  # the package raises many kinds on what is no document
        raise _broken(name, "docx", error) from None
    return passages(_of_blocks(blocks, limit), name, limit)


def _texts_of_block(block: Paragraph | Table) -> Iterator[tuple[str, bool]]:
    """The text of a paragraph, or of each row of a table, and whether it is a heading."""
    from docx.table import Table

    if isinstance(block, Table):
        for row in block.rows:
            cells = {id(cell._tc): cell.text for cell in row.cells}  # a merged cell only once
            yield " | ".join(text.strip().replace("\n", " ") for text in cells.values()), False
    else:
        style = block.style.name if block.style else None
        yield block.text, bool(_HEADING_STYLE.match(style or ""))


def _of_blocks(blocks: list[tuple[str, bool]], limit: int) -> Iterator[Piece]:
    glue = FREE
    for number, (block, is_heading) in enumerate(blocks, start=1):
        if not block.strip():
            continue
        column, joint = 1, NEXT_PARAGRAPH
        for line in block.split("\n"):
            yield from split_line(Piece(line, f"¶{number}", column, joint, glue), limit)
            column, joint, glue = column + len(line) + 1, NEXT_LINE, FREE
        glue = BEHIND_A_HEADING if is_heading else FREE


def pdf_passages(stream: BinaryIO, name: str, limit: int) -> Iterator[Record | BadRow]:
    """The passages of a pdf, as far as it holds text; a page without any is a bad row.

    Raises:
        MissingExtraError: pypdf is not installed.
        DataError: the file is broken or encrypted.
    """
    try:
        import pypdf
    except ImportError:
        raise MissingExtraError("pypdf", "documents") from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells of each fault that it mends
    try:
        reader = pypdf.PdfReader(stream)
        is_locked = reader.is_encrypted and not reader.decrypt("")
        num_pages = 0 if is_locked else len(reader.pages)
    except Exception as error:  # the package raises many kinds on what is no pdf
        raise _broken(name, "pdf", error) from None
    if is_locked:
        raise DataError(name, "this pdf is encrypted.", "Save it without a password.")
    return passages(_of_pages(reader, num_pages, name, limit), name, limit)


def _of_pages(reader: PdfReader, num_pages: int, name: str, limit: int) -> Iterator[Piece | BadRow]:
    for number in range(1, num_pages + 1):
        origin = f"{name}:p{number}"
        try:
            text = reader.pages[number - 1].extract_text()
        except Exception as error:  # as above, for one page
            yield BadRow(origin, f"this page can't be read: {first_line(error)}.", "")
            continue
        if not text.strip():
            yield BadRow(origin, "no text on this page; it may be a scan.", "")
        column, joint = 1, NEXT_LINE
        for line in text.split("\n"):
            if line.strip():
                yield from split_line(Piece(line, f"p{number}", column, joint), limit)
            column += len(line) + 1
            joint = NEXT_LINE if line.strip() else NEXT_PARAGRAPH


def _broken(name: str, kind: str, error: Exception) -> DataError:
    return DataError(
        name,
        f"this is no {kind} that can be read: {first_line(error)}.",
        "Open it in a program for such files and save it again, without a password.",
    )
