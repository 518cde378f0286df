import pytest

from burnish.planning.cluster import all_reduce_seconds
from burnish.planning.link import link_of, measured_link


def test_the_link_gives_back_the_seconds_that_it_was_measured_by():
    # 2 x 50 us a sum, 1 GB/s, and 0.1 ms of copies.
    link = link_of(1_000_000, short=1e-4, long=1e-4 + 1e-3, copying=1e-4)
    assert link.bandwidth == pytest.approx(1e9)
    assert link.latency == pytest.approx(5e-5)
    assert link.copying == pytest.approx(1e-10)
    assert all_reduce_seconds(1_000_000, 1, 2, link) == pytest.approx(1.2e-3)
    assert link.source == (
        "measured between two processes here: 1.00 GB/s at 1.0 MiB, 50 us a message"
    )


def test_a_long_sum_that_was_faster_than_a_short_one_gives_no_negative_bandwidth():
    assert link_of(1000, short=2e-4, long=1e-4, copying=0.0).bandwidth > 0


@pytest.mark.slow
def test_two_processes_of_this_machine_are_measured():
    link = measured_link(2**20)
    assert 1e6 < link.bandwidth < 1e12
    assert 0 < link.latency < 0.1
    assert 0 < link.copying < 1e-7
    assert link.source.startswith("measured between two processes here: ")
