import json
import shutil

import pytest
import torch

from burnish.errors import ModelError, RecipeError
from burnish.pipeline import rows_to_plan, run_stage
from burnish.planning import plan as planning
from burnish.planning.cluster import Link
from burnish.planning.memory import ROOM
from burnish.planning.plan import Target, plan
from burnish.recipe_file import load_recipe
from burnish.training.rehearsal import rehearsed_loop
from tests.conftest import write_recipe

QUICK = Target(calibrate=False)


@pytest.fixture(autouse=True)
def known_libraries(monkeypatch):
    """Half a GiB of libraries; measuring them takes seconds, and has a test of its own."""
    monkeypatch.setattr(planning, "_libraries_gib", lambda: 0.5)


def look(loaded, folder, target=QUICK):
    rows = rows_to_plan(loaded, folder / "scratch")
    return plan(loaded.recipe, *rows, target, rehearsed_loop)


def squares_after(number):
    return ", ".join(str(n * n) for n in range(number, number + 60)) + "."


def test_before_anything_was_run_the_rows_are_rendered_and_the_run_folder_stays_empty(
    tiny_recipe, tmp_path
):
    report = look(tiny_recipe, tmp_path)
    assert report.data.source == "an estimate: 40 of 40 cleaned rows were rendered"
    assert report.data.num_examples == 24  # of 40, with two fifths held out
    assert not (tmp_path / "run").exists()
    assert report.fits
    assert report.changes_that_fit == []


def test_after_prepare_its_rows_count_exactly(tiny_recipe, tmp_path):
    run_stage("clean", tiny_recipe)
    prepared = run_stage("prepare", tiny_recipe)
    report = look(tiny_recipe, tmp_path)
    assert report.data.source == "the rows that prepare made"
    assert report.data.num_examples == prepared["num_examples"]["train"]
    assert report.data.num_tokens == prepared["num_tokens"]["train"]
    assert report.data.num_supervised_tokens == prepared["num_supervised_tokens"]["train"]
    assert not any("estimates" in note for note in report.notes)


def test_a_folder_with_config_json_alone_is_enough(tiny_recipe, tiny_model, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(tiny_model / "config.json", bare)
    text = (tmp_path / "recipe.yaml").read_text().replace(str(tiny_model), str(bare))
    (tmp_path / "bare.yaml").write_text(text)
    report = look(load_recipe(tmp_path / "bare.yaml"), tmp_path)
    whole = look(tiny_recipe, tmp_path / "other")
    assert report.model.weights == whole.model.weights
    assert "for want of a tokenizer" in report.data.source
    assert report.memory_gib["cpu"].weights == whole.memory_gib["cpu"].weights


def test_a_config_can_stand_for_the_model_of_the_recipe(tiny_recipe, tiny_model, tmp_path):
    config = json.loads((tiny_model / "config.json").read_text())
    config |= {"num_hidden_layers": 4}
    path = tmp_path / "larger" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(config))
    larger = look(tiny_recipe, tmp_path, Target(calibrate=False, model_config=path))
    own = look(tiny_recipe, tmp_path / "own")
    layer = 2 * 1024 + 2 * 512 + 3 * 2048 + 64
    assert larger.model.weights - own.model.weights == 2 * layer


def test_no_config_is_an_error(tiny_recipe, tmp_path):
    with pytest.raises(ModelError, match=r"there is no config\.json here"):
        look(tiny_recipe, tmp_path, Target(model_config=tmp_path / "none.json"))


def test_what_does_not_fit_a_gpu_is_said_with_changes_that_fit_by_the_same_arithmetic(
    tiny_model, tmp_path
):
    text = f"""\
run_dir: {{folder}}/run
model: {{{{name_or_path: {tiny_model}}}}}
data: {{{{sources: [{{{{path: {{data}}}}}}]}}}}
train: {{{{per_device_train_batch_size: 16, row_length: 2048, gradient_checkpointing: false}}}}
"""
    rows = [
        {"instruction": f"Which squares come after {i}?", "output": squares_after(i)}
        for i in range(64)
    ]
    recipe = write_recipe(tmp_path, text, rows)
    needed = look(load_recipe(recipe), tmp_path).memory_gib["cuda"]
    room = needed.others + 0.6 * (needed.peak - needed.others)
    small = Target(gpu_gib=room / ROOM["cuda"], calibrate=False)
    report = look(load_recipe(recipe), tmp_path / "gpu", small)
    assert not report.fits
    assert report.memory_gib["cuda"].fits is False
    assert report.time is None
    to_paste = [line for line in report.changes_that_fit if line.startswith("--set")]
    assert to_paste
    for number, line in enumerate(to_paste[:2]):
        settings = line.partition("#")[0].replace("--set", "").split()
        again = look(load_recipe(recipe, settings), tmp_path / f"changed{number}", small)
        assert again.fits, line


def test_offloading_is_planned_for_a_gpu_and_refused_where_there_is_none(
    tiny_recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    loaded = load_recipe(tmp_path / "recipe.yaml", ["train.activation_offloading=true"])
    with pytest.raises(RecipeError, match="this run is on cpu"):
        look(loaded, tmp_path)
    report = look(loaded, tmp_path / "gpu", Target(gpu_gib=24, calibrate=False))
    assert report.fits
    assert report.memory_gib["cuda"].offloaded == 0  # nothing of this model has a mebibyte


def test_the_libraries_of_a_process_are_measured_in_one(monkeypatch):
    monkeypatch.undo()
    assert 0.2 < planning._libraries_gib() < 2.0


def test_several_processes_take_their_part_of_a_step(tiny_recipe, tmp_path):
    link = Link.given(1.0, 0)
    alone = look(tiny_recipe, tmp_path)
    report = look(tiny_recipe, tmp_path / "two", Target(num_processes=2, link=link))
    assert alone.cluster is None
    assert report.cluster.processes == 2
    assert report.cluster.link == "given: 1 GB/s, 0 us a message"
    ways = report.cluster.ways
    assert list(ways) == ["ddp", "zero2", "fsdp2"]
    trained = report.model.trained_weights
    assert ways["ddp"].communicated_gib == pytest.approx(4 * trained / 2**30, abs=1e-4)
    step = ways["ddp"].seconds_per_step - ways["ddp"].seconds_of_communication
    assert 0 < step < report.time.seconds_per_step


def test_a_shared_beginning_is_computed_once(tiny_model, tmp_path):
    system = "You answer in squares. " * 10
    rows = [
        {"system": system, "instruction": f"And {i}?", "output": squares_after(i)}
        for i in range(40)
    ]
    text = (
        f"run_dir: {{folder}}/run\nmodel: {{{{name_or_path: {tiny_model}}}}}\n"
        "data: {{sources: [{{path: {data}}}]}}\ntrain: {{share_prefixes: PLACEHOLDER}}\n"
    )
    seen = {}
    for share in ("true", "false"):
        folder = tmp_path / share
        folder.mkdir()
        recipe = write_recipe(folder, text.replace("PLACEHOLDER", share), rows)
        seen[share] = look(load_recipe(recipe), folder).data
    assert seen["false"].num_computed_tokens == seen["false"].num_tokens == seen["true"].num_tokens
    # A row has room for one record or two, whose system prompt of 230 tokens then stands once.
    assert 0.7 < seen["true"].num_computed_tokens / seen["true"].num_tokens < 0.9


def test_a_file_of_another_name_is_refused_rather_than_the_config_beside_it(
    tiny_recipe, tiny_model, tmp_path
):
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(tiny_model / "config.json", folder)
    (folder / "larger.json").write_text("{}")
    with pytest.raises(ModelError, match="this file has another name"):
        look(tiny_recipe, tmp_path, Target(model_config=folder / "larger.json"))


def test_a_base_whose_files_are_quantized_counts_as_whole_and_that_is_said(
    tiny_recipe, tiny_model, tmp_path
):
    config = json.loads((tiny_model / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    path = tmp_path / "quantized" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(config))
    report = look(tiny_recipe, tmp_path, Target(calibrate=False, model_config=path))
    assert "the base is quantized by gptq: its weights count as if they were whole" in report.notes
    assert report.model.weights == look(tiny_recipe, tmp_path / "own", QUICK).model.weights


@pytest.mark.filterwarnings("ignore:The following .*_pattern keys")  # by PEFT, on fused experts
def test_weights_of_a_token_do_not_depend_on_the_adapter(tiny_recipe, tmp_path):
    from transformers import MixtralConfig

    config = MixtralConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=1,
    )
    config.save_pretrained(tmp_path / "experts")
    report = look(tiny_recipe, tmp_path, Target(calibrate=False, model_config=tmp_path / "experts"))
    # Three of four experts rest in each of two layers; the experts' adapters don't count.
    assert report.model.weights - report.model.weights_per_token == 2 * 3 * 3 * 64 * 32


def test_what_training_would_refuse_to_load_is_refused(tiny_recipe, tiny_model, tmp_path):
    config = json.loads((tiny_model / "config.json").read_text())
    config["architectures"] = ["Gemma3ForConditionalGeneration"]
    path = tmp_path / "other" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match="this is no causal language model"):
        look(tiny_recipe, tmp_path, Target(model_config=path))


def test_layers_that_are_not_there_are_an_error_of_the_recipe(tiny_recipe, tmp_path):
    loaded = load_recipe(tmp_path / "recipe.yaml", ["train.lora.target_modules=[query_key]"])
    with pytest.raises(RecipeError, match="fits no layer of this model"):
        look(loaded, tmp_path)
