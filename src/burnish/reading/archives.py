"""Files as streams of bytes, also out of .gz and .zip, with limits against archive bombs.

What is unpacked stays in memory piece by piece. Nothing is written under a name that an archive
brings; kinds that need seeking get a nameless temporary file.
"""

from __future__ import annotations

import gzip
import io
import posixpath
import re
import shutil
import stat
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from burnish.errors import DataError
from burnish.progress import say
from burnish.reading.unpacking import BROKEN, Limit, broken, unpacked

MAX_MEMBERS = 10_000

GZIP, ZIP = ".gz", ".zip"
ARCHIVES = {GZIP, ZIP, ".7z", ".bz2", ".rar", ".tar", ".tgz", ".xz", ".zst"}

_NUM_NAMED = 3
_DRIVE = re.compile("[A-Za-z]:/")


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file's bytes, wherever they lie.

    Attributes:
        name: what stands before the line in an origin.
        kind: the ending that says how to read it, such as `.csv`; without .gz.
        open: a new stream of the bytes from the start.
        max_unpacked_gib: the most that it may unpack to.
        tell: takes a remark about the file, for whoever is at the terminal.
    """

    name: str
    kind: str
    open: Callable[[], BinaryIO]
    max_unpacked_gib: float
    tell: Callable[[str], None] = say


def kind_of(name: str) -> str:
    """The ending that says how to read a file, in lower case: `.csv` for A.CSV and a.csv.gz."""
    lower = name.lower()
    return Path(lower.removesuffix(GZIP) or lower).suffix


def is_hidden(name: str) -> bool:
    """Whether a file is there for a program: a part of its path begins with a dot, and the like."""
    return any(part.startswith((".", "~$", "__MACOSX")) for part in name.split("/"))


def raw_file(
    path: Path, name: str, max_unpacked_gib: float, tell: Callable[[str], None] = say
) -> RawFile:
    """A file on the disk; one that ends in .gz is unpacked while it is read."""
    opener = partial(_open_plain, path, name)
    if path.suffix.lower() == GZIP:
        opener = partial(_open_gzip, path, name, max_unpacked_gib)
    return RawFile(name, kind_of(path.name), opener, max_unpacked_gib, tell)


def _open_plain(path: Path, name: str) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(
            name, f"this file can't be opened: {error.strerror}.", "Check who may read it."
        ) from None


def _open_gzip(path: Path, name: str, max_unpacked_gib: float) -> BinaryIO:
    _open_plain(path, name).close()
    limit = Limit(name, path.stat().st_size, max_unpacked_gib)
    return unpacked(gzip.GzipFile(path, "rb"), limit)


def members(
    path: Path, name: str, max_unpacked_gib: float, tell: Callable[[str], None] = say
) -> Iterator[RawFile]:
    """The files in a zip, by name; each must be read before the next is asked for.

    Hidden ones are left out, and that is told.

    Raises:
        DataError: it is broken, encrypted, holds other archives, unpacks to too much, or the name
            of a file leads out of it.
    """
    with _open_plain(path, name) as packed, _open_zip(packed, name) as archive:
        limit = Limit(name, path.stat().st_size, max_unpacked_gib)
        for member, info in sorted(_checked(archive, limit, tell).items()):
            full = f"{name}/{member}"
            opener = partial(_open_member, archive, info, limit.named(full))
            yield RawFile(full, kind_of(member), opener, max_unpacked_gib, tell)


def check_zip(stream: BinaryIO, name: str, max_unpacked_gib: float) -> None:
    """Refuses a file in zip's format (a .docx) that is broken or unpacks to too much.

    Raises:
        DataError: it is; the message names the limit.
    """
    size = stream.seek(0, io.SEEK_END)
    with _open_zip(stream, name) as archive:
        _refuse_growth(archive.infolist(), Limit(name, size, max_unpacked_gib))
    stream.seek(0)


def seekable(raw: RawFile) -> BinaryIO:
    """The bytes as a stream in which one can go back, for kinds that are read from their end."""
    stream = raw.open()
    if stream.seekable():
        return stream
    with stream, ExitStack() as on_error:
        copy = cast("BinaryIO", on_error.enter_context(tempfile.TemporaryFile()))
        shutil.copyfileobj(stream, copy, 2**20)
        on_error.pop_all()
    copy.seek(0)
    return copy


def _open_zip(stream: BinaryIO, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(stream)
    except BROKEN as error:
        raise broken(name, error) from None


def _open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: Limit) -> BinaryIO:
    try:
        return unpacked(archive.open(info), limit)
    except BROKEN as error:
        raise broken(limit.name, error) from None


def _checked(
    archive: zipfile.ZipFile, limit: Limit, tell: Callable[[str], None]
) -> dict[str, zipfile.ZipInfo]:
    """The members by name, without folders, links and hidden files."""
    infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
    _refuse_growth(infos, limit)
    named = [(_name_within(_name_of(info), limit.name), info) for info in infos]
    hidden = [name for name, _ in named if is_hidden(name)]
    seen = [(name, info) for name, info in named if not is_hidden(name)]
    links = [name for name, info in seen if _is_link(info)]
    wanted = [(name, info) for name, info in seen if not _is_link(info)]
    for what, names in (("hidden files", hidden), ("links", links)):
        if names:
            tell(_skipped(limit.name, what, names))
    twice = [name for name, count in Counter(name for name, _ in wanted).items() if count > 1]
    for member, info in wanted:
        where = f"{limit.name}/{member}"
        if Path(member).suffix.lower() in ARCHIVES:
            raise DataError(where, "this is an archive within an archive.", "Unpack it first.")
        if info.flag_bits & 1:
            raise DataError(
                where, "this file in the archive is encrypted.", "Pack it without a password."
            )
    if twice:
        raise DataError(
            f"{limit.name}/{twice[0]}",
            "two files in this archive have this one name.",
            "Give every file a name of its own.",
        )
    return dict(wanted)


def _is_link(info: zipfile.ZipInfo) -> bool:
    """Whether a member is a symbolic link, whose content is the name of another file."""
    return stat.S_ISLNK(info.external_attr >> 16)


def _skipped(archive: str, what: str, names: list[str]) -> str:
    shown = ", ".join(names[:_NUM_NAMED]) + (", ..." if len(names) > _NUM_NAMED else "")
    return f"{archive}: skipped {len(names)} {what} in this archive ({shown})"


def _name_within(name: str, archive: str) -> str:
    """A member's name without detours: `x.csv` for `./x.csv`."""
    short = posixpath.normpath(name.replace("\\", "/"))
    if short.startswith(("/", "../")) or short == ".." or _DRIVE.match(short):
        raise DataError(
            archive,
            f"the name of a file in this archive, {name!r}, leads out of it.",
            "Pack it again with names that begin with no / and no ../, or unpack it yourself.",
        )
    return short


def _refuse_growth(infos: list[zipfile.ZipInfo], limit: Limit) -> None:
    if len(infos) > MAX_MEMBERS:
        raise DataError(
            limit.name,
            f"this archive holds {len(infos):,} files, more than {MAX_MEMBERS:,}.",
            "Unpack it yourself and name the folder.",
        )
    # zipfile reads no more of a member than it declares, so that these sizes hold.
    limit.check(sum(info.file_size for info in infos))


def _name_of(info: zipfile.ZipInfo) -> str:
    """A member's name; zip programs for Chinese Windows write it in GB18030 and don't say so."""
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    raw = info.orig_filename.encode("cp437", "replace")
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding).replace("\\", "/")
        except UnicodeDecodeError:
            continue
    return info.filename
