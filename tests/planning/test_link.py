import pytest

from burnish.planning.cluster import all_reduce_seconds
from burnish.planning.link import fitted, measured_link


def test_the_line_through_sums_of_two_processes():
    # 2 x 50 us and 1 GB/s.
    sizes = [4.0, 4e4, 4e6]
    seconds = [1e-4 + size / 1e9 for size in sizes]
    bandwidth, latency = fitted(sizes, seconds)
    assert bandwidth == pytest.approx(1e9)
    assert latency == pytest.approx(5e-5)


def test_neither_is_ever_negative():
    bandwidth, latency = fitted([1e3, 1e6], [1e-6, 1e-6])
    assert bandwidth > 0
    assert latency >= 0


@pytest.mark.slow
def test_two_processes_of_this_machine_are_measured():
    link = measured_link()
    assert 1e7 < link.bandwidth < 1e12
    assert 0 < link.latency < 0.1
    assert all_reduce_seconds(2**20, 1, 2, link) < 1
    assert link.source.startswith("measured between two processes here: ")
