"""The stages in order: what is run, skipped and run again."""

from __future__ import annotations

from burnish.pipeline import run


def test_every_stage_of_the_tiny_recipe_runs_and_a_second_run_does_nothing(tiny_recipe, capfd):
    first = run(tiny_recipe)
    assert list(first) == ["clean", "prepare", "train", "evaluate", "merge", "quantize"]
    assert first["clean"]["num_kept"] == 40
    capfd.readouterr()
    assert run(tiny_recipe) == first
    assert capfd.readouterr().err.count("not run again") == 6
