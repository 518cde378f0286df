from dataclasses import replace

import pytest

from burnish.errors import RecipeError
from burnish.planning.loops import check_offloading
from burnish.recipe import TrainSection
from tests.planning.made_up import silent_loop


def test_loops_of_one_name_are_one_to_a_cache_whatever_their_functions():
    first, second = silent_loop(), silent_loop()
    assert first.loss is not second.loss
    assert first == second
    assert hash(first) == hash(second)
    assert first != replace(first, name="another")
    assert first != replace(first, elsewhere=print)


def test_a_loop_without_caches_forgets_nothing():
    assert silent_loop().forget() is None


def test_activations_are_offloaded_from_a_gpu_alone():
    wanted = TrainSection(activation_offloading=True)
    check_offloading(wanted, "cuda")
    check_offloading(TrainSection(), "cpu")
    with pytest.raises(RecipeError, match="to the CPU's, and this run is on mps") as caught:
        check_offloading(wanted, "mps")
    assert caught.value.where == "train.activation_offloading"
