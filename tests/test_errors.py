import pickle

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


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no such model.\nTraceback …"), "no such model"),
        (ValueError(" \n two lines\nof it"), "two lines"),
        (ValueError(), "ValueError"),
    ],
)
def test_the_first_line_of_a_librarys_error_stands_without_its_full_stop(error, said):
    assert errors.first_line(error) == said


def test_a_missing_package_names_the_extra_to_install():
    assert str(MissingExtraError("torch", "train")) == (
        "torch: this step needs a package that is not installed.\n"
        "  Install it with: pip install 'burnish[train]'"
    )


@pytest.mark.parametrize("kind", BurnishError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_error_stands_in_the_tree_of_the_module(kind):
    assert f" {kind.__name__} " in (errors.__doc__ or "")


def test_a_place_is_named_where_the_system_named_none():
    with pytest.raises(OSError, match="full") as caught, errors.naming("run/a"):
        raise OSError(28, "full")
    assert caught.value.filename == "run/a"
    with pytest.raises(OSError, match="full") as caught, errors.naming("run/a"):
        raise OSError(28, "full", "b")
    assert caught.value.filename == "b"
    with pytest.raises(OSError, match="no such page") as caught, errors.naming("run/a"):
        raise OSError("no such page")  # a library's, not the system's
    assert caught.value.filename is None


def test_what_the_system_refused_a_library_in_rust_is_the_systems_error():
    with pytest.raises(OSError, match="No space left") as caught, errors.naming("run/a"):
        raise Exception("No space left on device (os error 28)")
    assert (caught.value.errno, caught.value.filename) == (28, "run/a")
    with pytest.raises(ValueError, match="no number"), errors.naming("run/a"):
        raise ValueError("no number")
    with pytest.raises(BurnishError, match="run/b: full"), errors.naming("run/a"):
        raise BurnishError("run/b", "full (os error 28).", "Make room.")


def every_kind(kind=BurnishError):
    yield kind
    for below in kind.__subclasses__():
        yield from every_kind(below)


@pytest.mark.parametrize("kind", list(every_kind()), ids=lambda kind: kind.__name__)
def test_every_error_comes_out_of_another_process_as_it_went_in(kind):
    error = (
        MissingExtraError("ray", "ray")
        if kind is MissingExtraError
        else kind("raw.csv:203", "no answer in this row.", "Name its column.")
    )
    error.add_note("seen by worker 2")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(error, protocol))
        assert type(back) is kind
        assert (back.where, back.problem, back.remedy) == (error.where, error.problem, error.remedy)
        assert (str(back), back.args) == (str(error), error.args)
        assert back.__notes__ == ["seen by worker 2"]
