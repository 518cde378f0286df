import pytest
from pydantic import ValidationError

from burnish.planning.report import DataLook, MemoryLook
from tests.planning.made_up import memory_of


def test_a_report_is_frozen():
    look = DataLook(
        source="made up",
        num_examples=1,
        num_tokens=10,
        num_computed_tokens=10,
        num_supervised_tokens=5,
        longest=10,
        num_cut=0,
        packing_efficiency=1.0,
    )
    with pytest.raises(ValidationError):
        look.num_cut = 3


def test_a_look_at_memory_is_the_memory_and_whether_it_fits():
    look = MemoryLook(**memory_of(3.0).model_dump(), available=4.0, fits=True)
    assert (look.peak, look.worst_moment, look.fits) == (3.0, "training", True)
