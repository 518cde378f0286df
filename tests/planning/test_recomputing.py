import pytest

from burnish.planning.recomputing import num_recomputed


def needed(number):
    """100 for ten layers that keep all, 6 less for each that recomputes."""
    return 100.0 - 6 * number


@pytest.mark.parametrize(
    ("room", "number"),
    [(200.0, 0), (100.0, 0), (99.9, 1), (94.0, 1), (93.9, 2), (70.0, 5), (40.0, 10)],
)
def test_auto_takes_the_fewest_layers_that_fit(room, number):
    assert num_recomputed("auto", 10, needed, room) == number


def test_where_nothing_fits_it_is_what_takes_least():
    assert num_recomputed("auto", 10, needed, 39.9) == 10
    # The last layer's forward pass anew may cost more than its activations do.
    assert num_recomputed("auto", 10, lambda n: abs(n - 7.0), -1.0) == 7


def test_where_nobody_knows_the_memory_nothing_recomputes():
    assert num_recomputed("auto", 10, needed, None) == 0


@pytest.mark.parametrize(("wanted", "number"), [(True, 10), (False, 0), (1, 1), (4, 4), (99, 10)])
def test_a_recipe_that_says_how_many_is_obeyed_without_counting(wanted, number):
    def uncounted(_):
        raise AssertionError("nothing is to be counted")

    assert num_recomputed(wanted, 10, uncounted, 1.0) == number
