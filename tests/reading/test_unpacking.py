"""How much may be unpacked, and what a broken archive says."""

import io
import zlib

import pytest

from burnish.errors import DataError
from burnish.reading.unpacking import BROKEN, Limit, broken, unpacked

MIB, GIB = 2**20, 2**30


def refused(limit, num_bytes):
    with pytest.raises(DataError) as caught:
        limit.check(num_bytes)
    return str(caught.value)


def test_sixteen_mebibytes_are_free_and_then_two_hundred_times_the_size():
    small, large = Limit("a.gz", 100, 1.0), Limit("a.gz", MIB, 1.0)
    small.check(16 * MIB)
    large.check(200 * MIB)
    for limit, most in ((small, 16 * MIB), (large, 200 * MIB)):
        assert refused(limit, most + 1) == (
            "a.gz: this archive unpacks to more than 200 times its size, as those do that are made "
            "to fill a machine.\n  If it is right, unpack it yourself and name what comes out; "
            "data.max_unpacked_gib limits the size alone."
        )


def test_the_size_alone_has_a_limit_too():
    limit = Limit("a.parquet", GIB, 1.5, "file")
    limit.check(3 * GIB // 2)
    assert refused(limit, 3 * GIB // 2 + 1) == (
        "a.parquet: this file unpacks to more than 1.5 GiB.\n"
        "  If it is right, raise data.max_unpacked_gib."
    )
    Limit("a.gz", 1, 1.5).check_size(GIB)  # whatever the ratio


def test_a_part_of_a_file_is_refused_under_its_own_name():
    assert refused(Limit("a.zip", 1, 1.0).named("a.zip/b.csv"), GIB).startswith("a.zip/b.csv: ")


class Counting(io.BytesIO):
    """Bytes that tell how many of them were read."""

    num_read = 0

    def read(self, size=-1, /):
        data = super().read(size)
        self.num_read += len(data)
        return data


def test_bytes_come_as_they_are_and_no_more_are_unpacked_than_the_limit_and_a_buffer():
    inner = Counting(b"abc" * MIB)
    with unpacked(inner, Limit("a.gz", 1, MIB / GIB)) as stream:
        assert stream.read(4) == b"abca"
        with pytest.raises(DataError, match=r"^a.gz: this archive unpacks to more than"):
            stream.read()
    assert inner.closed
    assert inner.num_read <= MIB + 2**18


@pytest.mark.parametrize("error", [zlib.error("bad code\nmore"), EOFError("bad code.")])
def test_what_breaks_while_it_is_read_is_one_line(error):
    class Broken(io.BytesIO):
        def read(self, size=-1, /):
            raise error

    assert isinstance(error, BROKEN)
    with pytest.raises(DataError) as caught:
        unpacked(Broken(), Limit("a.gz", 1, 1.0)).read()
    assert str(caught.value) == "a.gz: this archive is broken: bad code.\n  Pack or fetch it again."


def test_an_error_without_words_is_named():
    assert broken("a.gz", EOFError()).problem == "this archive is broken: EOFError."
