import pytest
from pydantic import ValidationError

from burnish.planning.report import DataLook


def test_a_report_is_frozen():
    look = DataLook(
        source="made up",
        num_examples=1,
        num_tokens=10,
        num_supervised_tokens=5,
        longest=10,
        num_cut=0,
        padding_of_this_loop=0.0,
        packing_efficiency=1.0,
    )
    with pytest.raises(ValidationError):
        look.num_cut = 3
