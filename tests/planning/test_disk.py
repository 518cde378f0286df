import pytest

from burnish.planning.disk import disk_bytes
from burnish.planning.outlook import with_settings
from burnish.recipe import DataSection, Recipe, Source
from tests.conftest import tiny_llama

RECIPE = Recipe(data=DataSection(sources=[Source(path="rows.json")]))
LINEAR = 2 * (2 * 1024 + 2 * 512 + 3 * 2048)
REST = 3200 + 2 * 64 + 32


def sizes(**changes):
    recipe = with_settings(RECIPE, {k.replace("__", "."): v for k, v in changes.items()})
    return disk_bytes(
        recipe, tiny_llama(100).config, num_trained=1000, num_tokens=50, num_checkpoints=3
    )


def test_checkpoints_hold_adapter_and_moments_one_more_while_one_is_written():
    # Two that are kept and one that is written, 12 bytes a weight, and the adapter itself.
    assert sizes()["checkpoints and adapter"] == 1000 * (12 * 3 + 4)
    assert sizes(train__save_total_limit=None)["checkpoints and adapter"] == 1000 * (12 * 4 + 4)


def test_without_a_limit_every_checkpoint_stays():
    few, many = (
        disk_bytes(
            with_settings(RECIPE, {"train.save_total_limit": limit}),
            tiny_llama(100).config,
            num_trained=1000,
            num_tokens=0,
            num_checkpoints=100,
        )["checkpoints and adapter"]
        for limit in (2, None)
    )
    assert (few, many) == (1000 * (12 * 3 + 4), 1000 * (12 * 101 + 4))


def test_the_merged_model_has_the_width_of_the_recipe():
    assert sizes()["merged model"] == 4 * (LINEAR + REST)
    assert sizes(merge__dtype="bfloat16")["merged model"] == 2 * (LINEAR + REST)


def test_the_quantized_model_has_packed_layers_with_scales_and_the_rest_in_16_bits():
    # A group of 128 has a scale in 16 bits and a zero point in 4.
    expected = LINEAR * (0.5 + 2.5 / 128) + 2 * REST
    assert sizes()["quantized model"] == pytest.approx(expected, abs=1)
