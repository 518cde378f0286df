from dataclasses import replace

from tests.planning.made_up import silent_loop


def test_loops_of_one_name_are_one_to_a_cache_whatever_their_functions():
    first, second = silent_loop(), silent_loop()
    assert first.loss is not second.loss
    assert first == second
    assert hash(first) == hash(second)
    assert first != replace(first, name="another")


def test_a_loop_without_caches_forgets_nothing():
    assert silent_loop().forget() is None
