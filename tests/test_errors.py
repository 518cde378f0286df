import pytest

from burnish import errors
from burnish.errors import BurnishError, DataError, MissingExtraError


def test_an_error_says_where_what_and_what_to_do():
    error = DataError("raw.csv:203", "no answer in this row.", "Name its column.")
    assert str(error) == "raw.csv:203: no answer in this row.\n  Name its column."
    assert (error.where, error.problem, error.remedy) == (
        "raw.csv:203",
        "no answer in this row.",
        "Name its column.",
    )
    assert error.exit_code == 2


def test_an_error_without_a_remedy_is_one_line():
    assert str(DataError("a", "b.")) == "a: b."


def test_a_missing_package_names_the_extra_to_install():
    assert str(MissingExtraError("torch", "train")) == (
        "torch: this step needs a package that is not installed.\n"
        "  Install it with: pip install 'burnish[train]'"
    )


@pytest.mark.parametrize("kind", BurnishError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_error_stands_in_the_tree_of_the_module(kind):
    assert f" {kind.__name__} " in (errors.__doc__ or "")
