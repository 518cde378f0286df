"""Each method from recipe to merged model: it learns, resumes, and what is saved is what it was."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from burnish.errors import BurnishError, RecipeError
from burnish.export.merge import merge
from burnish.models.loading import load_artifact, load_base, load_unmerged
from burnish.pipeline import run_stage
from burnish.recipe import MergeSection, ModelSection, TrainSection
from burnish.recipe_file import load_recipe
from burnish.run_dir import RunDir
from burnish.training import methods
from burnish.training.assembly import build
from burnish.training.journal import read_lines
from burnish.training.methods import check_settings, load_trainable
from burnish.training.packed_model import PackedModel
from burnish.training.packing import pack
from burnish.training.train import train
from tests.conftest import alpaca_rows, write_recipe
from tests.training.family import build as random_model
from tests.training.family import by_rows, one_by_one, records, worst_difference

pytestmark = pytest.mark.filterwarnings("ignore")

SETTINGS = {
    "bf16": False,
    "max_steps": 8,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "constant",
    "warmup_ratio": 0,
    "logging_steps": 1,
    "save_strategy": "steps",
    "save_steps": 4,
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": False,
    "lora": {"r": 2},
}
LAYER = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32
ADAPTER = 2 * 2 * (4 * 32 + 32 + 16 + 32 + 16 + 3 * (32 + 64))  # layers, r, widths in and out
VOCAB = 3 + 256

METHODS = {
    "lora": ({}, ADAPTER),
    "rslora": ({"lora": {"r": 2, "use_rslora": True}}, ADAPTER),
    "dora": (
        {"lora": {"r": 2, "use_dora": True}},
        ADAPTER + 2 * (32 + 16 + 16 + 32 + 64 + 64 + 32),
    ),
    "gaussian": ({"lora": {"r": 2, "init_lora_weights": "gaussian"}}, ADAPTER),
    "orthogonal": ({"lora": {"r": 2, "init_lora_weights": "orthogonal"}}, ADAPTER),
    "pissa": ({"lora": {"r": 2, "init_lora_weights": "pissa"}}, ADAPTER),
    "pissa_niter": ({"lora": {"r": 2, "init_lora_weights": "pissa_niter_4"}}, ADAPTER),
    "pissa rslora": (
        {"lora": {"r": 2, "init_lora_weights": "pissa", "use_rslora": True}},
        ADAPTER,
    ),
    "olora": ({"lora": {"r": 2, "init_lora_weights": "olora"}}, ADAPTER),
    "lora+": ({"lora": {"r": 2, "loraplus_lr_ratio": 4}}, ADAPTER),
    "neftune": ({"neftune_noise_alpha": 5}, ADAPTER),
    "muon": ({"optim": "muon"}, ADAPTER),
    "freeze": ({"lora": {}, "method": "freeze", "freeze_trainable_layers": 1}, LAYER),
    "full": (
        {"lora": {}, "method": "full", "learning_rate": 1e-3},
        VOCAB * 32 + 2 * LAYER + 32,
    ),
    "full bf16": (
        {"lora": {}, "method": "full", "learning_rate": 1e-3, "bf16": True},
        VOCAB * 32 + 2 * LAYER + 32,
    ),
    "freeze bf16": (
        {"lora": {}, "method": "freeze", "freeze_trainable_layers": 1, "bf16": True},
        LAYER,
    ),
}
WIDTHS = {
    "loftq": ("load_in_4bit: true", {"lora": {"r": 2, "init_lora_weights": "loftq"}}),
    "8 bits": ("load_in_8bit: true", {}),
    "dora, 4 bits": ("load_in_4bit: true", {"lora": {"r": 2, "use_dora": True}}),
    "lora+, 4 bits": ("load_in_4bit: true", {"lora": {"r": 2, "loraplus_lr_ratio": 4}}),
    "new tokens": ("new_tokens: [Answer, Question]", {}),
    "new tokens, 4 bits": ("load_in_4bit: true, new_tokens: [Answer]", {}),
    "new tokens, full": (
        "new_tokens: [Answer]",
        {"lora": {}, "method": "full", "learning_rate": 1e-3},
    ),
}


def prepared(folder, model, settings, more="allow_pickle: false", test_size=0):
    """A recipe whose clean and prepare stages are done; a step takes all eight rows."""
    folder.mkdir(exist_ok=True)
    text = (
        "run_dir: {folder}/run\n"
        f"model: {{{{name_or_path: {model}, {more}}}}}\n"
        "data: {{sources: [{{path: {data}}}]}}\n"
        f"prepare: {{{{max_length: 128, validation_size: 0, test_size: {test_size}}}}}\n"
    )
    wanted = json.dumps({**SETTINGS, **settings})
    rows = alpaca_rows(8 if not test_size else 12)
    loaded = load_recipe(write_recipe(folder, text, rows), [f"train={wanted}"])
    for name in ("clean", "prepare"):
        run_stage(name, loaded)
    return loaded, RunDir(loaded.run_dir)


def go(loaded, run):
    return train(loaded.recipe.model, loaded.recipe.train, run)


def weights(run):
    (file,) = run.trained.glob("*.safetensors")
    return file.read_bytes()


def check_whole_way(loaded, run):
    """Trains, resumes from half of it, merges; returns the two reports."""
    report = go(loaded, run)
    losses = [
        line["train/loss"]
        for line in read_lines(run.folder("train") / "metrics.jsonl")
        if "train/loss" in line
    ]
    assert losses[-1] < losses[0] - 0.05
    first = weights(run)
    shutil.rmtree(run.checkpoints / "checkpoint-8")
    shutil.rmtree(run.trained)
    go(loaded, run)
    assert weights(run) == first
    merged = merge(loaded.recipe.model, MergeSection(), run)
    assert merged.max_logit_difference < 1e-3
    return report, merged


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_resumes_exactly_and_merges(tmp_path, tiny_model, name):
    settings, count = METHODS[name]
    report, _ = check_whole_way(*prepared(tmp_path, tiny_model, settings))
    assert report.trainable_parameters == count


ON_A_GPU = {
    "lora": ("load_in_4bit: false", {}),
    "dora": ("load_in_4bit: false", {"lora": {"r": 2, "use_dora": True}}),
    "pissa": ("load_in_4bit: false", {"lora": {"r": 2, "init_lora_weights": "pissa"}}),
    "dropout and layers that recompute": (
        "load_in_4bit: false",
        {"lora": {"r": 2, "lora_dropout": 0.1}, "gradient_checkpointing": True},
    ),
    "samples": ("load_in_4bit: false", {"eval_strategy": "steps", "eval_steps": 4, "samples": 1}),
    "new tokens": ("new_tokens: [Answer, Question]", {}),
    "4 bits": ("load_in_4bit: true", {}),
}


@pytest.mark.parametrize("name", ON_A_GPU)
def test_lora_in_bfloat16_by_autocast_learns_as_well(tmp_path, tiny_model, monkeypatch, name):
    def autocasts(section, on, compute):  # as it answers on a GPU
        return compute == torch.bfloat16

    monkeypatch.setattr(methods, "autocasts", autocasts)
    seen = []
    own = torch.nn.functional.linear

    def linear(input, weight, bias=None):
        if weight.requires_grad:
            seen.append(input.dtype)
        return own(input, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    width, settings = ON_A_GPU[name]
    settings = {"bf16": True, "backend": "transformers", **settings}
    check_whole_way(*prepared(tmp_path, tiny_model, settings, width, test_size=0.2))
    assert torch.bfloat16 in seen


@pytest.mark.parametrize("name", WIDTHS)
def test_so_it_does_on_a_base_of_few_bits_and_with_new_tokens(tmp_path, tiny_model, name):
    pytest.importorskip("bitsandbytes")
    more, settings = WIDTHS[name]
    check_whole_way(*prepared(tmp_path, tiny_model, settings, more))


@pytest.mark.parametrize(
    ("optim", "package"),
    [
        ("galore_adamw", "galore_torch"),
        ("galore_adafactor", "galore_torch"),
        ("apollo_adamw", "apollo_torch"),
    ],
)
def test_projected_optimizers_resume_exactly_too(tmp_path, tiny_model, optim, package):
    pytest.importorskip(package)
    settings = {"lora": {}, "method": "full", "learning_rate": 1e-3}
    settings |= {"optim": optim, "optim_args": {"rank": 4, "update_proj_gap": 2}}
    check_whole_way(*prepared(tmp_path, tiny_model, settings))


@pytest.mark.parametrize(
    "optim", ["adamw_bnb_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "lion_8bit", "lion_32bit"]
)
def test_optimizers_of_bitsandbytes_resume_exactly_too(tmp_path, tiny_model, optim):
    pytest.importorskip("bitsandbytes")
    check_whole_way(*prepared(tmp_path, tiny_model, {"optim": optim}))


# --- what is saved ---------------------------------------------------------------------------


def logits(model, run):
    from datasets import load_from_disk

    (ids,) = load_from_disk(str(run.split("train"))).select(range(1))["input_ids"]
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_that_changed_its_base_is_saved_for_the_original_base(
    tmp_path, tiny_model, start, rslora
):
    lora = {"r": 2, "init_lora_weights": start, "use_rslora": rslora}
    loaded, run = prepared(tmp_path, tiny_model, {"lora": lora})
    go(loaded, run)
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"]) == (4, True)
    base = load_base(tiny_model, ModelSection(name_or_path=str(tiny_model)), dtype=torch.float32)
    before = {n: p.clone() for n, p in base.named_parameters()}
    from peft import PeftModel

    tuned = PeftModel.from_pretrained(base, str(run.adapter)).eval()
    for name, p in tuned.get_base_model().named_parameters():
        if "lora_" not in name:
            assert torch.equal(p, before[name.replace(".base_layer", "")])
    # What training had at the end: its own base, changed anew, with the last checkpoint's adapter.
    from transformers import set_seed

    set_seed(loaded.recipe.train.seed)
    live = load_trainable(
        tiny_model, loaded.recipe.model, loaded.recipe.train, compute=torch.float32
    )
    live.load_adapter(str(run.checkpoints / "checkpoint-8"), "default")
    torch.testing.assert_close(logits(tuned, run), logits(live.eval(), run), atol=2e-5, rtol=0)


def test_loftqs_adapter_says_that_it_belongs_to_the_4_bit_base_and_merges_into_that(
    tmp_path, tiny_model
):
    pytest.importorskip("bitsandbytes")
    more, settings = WIDTHS["loftq"]
    loaded, run = prepared(tmp_path, tiny_model, settings, more)
    go(loaded, run)
    assert json.loads((run.adapter / "base.json").read_text()) == {"load_in_4bit": True}
    on_four_bits = load_artifact("adapter", loaded.recipe.model, run)
    to_merge = load_unmerged(tiny_model, loaded.recipe.model, run)
    torch.testing.assert_close(logits(on_four_bits, run), logits(to_merge, run), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["full", "freeze"])
def test_a_whole_model_takes_the_adapters_place_everywhere(tmp_path, tiny_model, name):
    loaded, run = prepared(tmp_path, tiny_model, METHODS[name][0], test_size=0.3)
    report = go(loaded, run)
    assert report.adapter == str(run.trained) == str(run.folder("train") / "model")
    assert not run.adapter.exists()
    answers = load_artifact("adapter", loaded.recipe.model, run)
    base = load_artifact("base", loaded.recipe.model, run)
    assert not torch.equal(logits(answers, run), logits(base, run))
    for stage in ("train", "evaluate", "merge"):
        run_stage(stage, loaded)
    torch.testing.assert_close(
        logits(load_artifact("merged", loaded.recipe.model, run), run),
        logits(load_artifact("adapter", loaded.recipe.model, run), run),
        atol=1e-6,
        rtol=0,
    )
    scores = json.loads((run.folder("evaluate") / "scores.json").read_text())
    assert scores["adapter"]["test/loss"] < scores["base"]["test/loss"]


def test_freeze_leaves_every_other_weight_to_the_bit(tmp_path, tiny_model):
    loaded, run = prepared(tmp_path, tiny_model, METHODS["freeze bf16"][0])
    go(loaded, run)
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(run.trained_model / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert {name.split(".")[2] for name in changed} == {"1"}


def test_new_tokens_are_in_the_merged_models_vocabulary_and_their_rows_alone_learned(
    tmp_path, tiny_model
):
    from transformers import AutoTokenizer

    loaded, run = prepared(tmp_path, tiny_model, {}, WIDTHS["new tokens"][0])
    go(loaded, run)
    adapter = load_file(run.adapter / "adapter_model.safetensors")
    rows = [t for n, t in adapter.items() if "token" in n]
    assert [r.shape for r in rows] == [(2, 32)]
    assert not any("embed_tokens.weight" in name for name in adapter)
    merge(loaded.recipe.model, MergeSection(), run)
    state = load_file(run.merged / "model.safetensors")
    base = load_file(tiny_model / "model.safetensors")
    name = "model.embed_tokens.weight"
    assert torch.equal(state[name][:VOCAB], base[name])
    torch.testing.assert_close(state[name][VOCAB:], rows[0])
    tokenizer = AutoTokenizer.from_pretrained(run.merged)
    assert tokenizer("Answer")["input_ids"] == [VOCAB]


# --- gradients -------------------------------------------------------------------------------

RECORDS = records((5, 40, 17, 9, 33), prefix=4)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {"method": "full"},
        {"method": "freeze", "freeze_trainable_layers": 1},
        {"method": "freeze", "freeze_trainable_layers": ["lm_head"]},
    ],
    ids=str,
)
def test_gradients_of_the_models_own_weights_are_those_of_a_plain_loop(tied, settings):
    from burnish.models.trainable import make_trainable

    model = random_model("Llama", tie_word_embeddings=tied)
    model = make_trainable(model, TrainSection.model_validate(settings)).double()
    loss, gradients = one_by_one(model, RECORDS)
    rows = pack(RECORDS, 64, share_prefixes=False)
    found, packed = by_rows(model, PackedModel(model).loss_sum, rows)
    assert found == pytest.approx(loss, rel=1e-6)
    assert worst_difference(packed, gradients) < 1e-5


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_of_new_tokens_rows_are_those_of_a_plain_loop(tied):
    from burnish.recipe import LoraSettings
    from burnish.training.adapter import add_adapter

    model = random_model("Llama", tie_word_embeddings=tied)
    new = {"model.embed_tokens": [5, 9]} | ({} if tied else {"lm_head": [5, 9]})
    model = add_adapter(model, LoraSettings(r=2), new_rows=new)
    learning = [n for n, p in model.named_parameters() if p.requires_grad and "token" in n]
    assert len(learning) == (1 if tied else 2)
    loss, gradients = one_by_one(model, RECORDS)
    rows = pack(RECORDS, 64, share_prefixes=False)
    found, packed = by_rows(model, PackedModel(model).loss_sum, rows)
    assert found == pytest.approx(loss, rel=1e-5)
    for name in learning:
        torch.testing.assert_close(packed[name], gradients[name], atol=1e-5, rtol=1e-3)
        assert gradients[name].abs().sum() > 0


# --- which path ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path"),
    [("rslora", "fast"), ("pissa", "fast"), ("dora", "transformers"), ("full", "transformers"),
     ("neftune", "transformers")],
)  # fmt: skip
def test_the_fast_path_is_taken_where_it_computes_the_method(tmp_path, tiny_model, name, path):
    loaded, run = prepared(tmp_path, tiny_model, METHODS[name][0])
    from burnish.training.metrics import Reporter

    trainer = build(
        loaded.recipe.model, loaded.recipe.train, run, Reporter(tmp_path / "metrics.jsonl")
    )
    assert trainer._accumulation._backend.name == path


# --- refusals --------------------------------------------------------------------------------


def test_a_rank_that_a_weight_does_not_have_is_refused(tiny_model):
    section = TrainSection.model_validate({"lora": {"r": 17, "init_lora_weights": "pissa"}})
    with pytest.raises(RecipeError, match="at most rank 16, not 17"):
        load_trainable(
            tiny_model, ModelSection(name_or_path=str(tiny_model)), section, compute=torch.float32
        )


def test_a_high_rate_for_a_whole_model_is_warned_of(capfd):
    check_settings(ModelSection(), TrainSection(method="full"))
    assert "1e-5 to 5e-5 is usual" in capfd.readouterr().err


def test_a_combination_is_refused_before_a_model_is_looked_for(tmp_path):
    model = ModelSection(name_or_path="/no/such/model", load_in_4bit=True)
    with pytest.raises(RecipeError, match="quantized ones have no gradient"):
        train(model, TrainSection(method="full"), RunDir(tmp_path))


def test_dora_on_8_bits_is_refused_on_a_cpu_where_peft_spoils_the_scales(monkeypatch):
    from burnish.training import methods

    model = ModelSection(load_in_8bit=True)
    section = TrainSection.model_validate({"lora": {"use_dora": True}})
    monkeypatch.setattr(methods, "pick_device", lambda: torch.device("cpu"))
    with pytest.raises(RecipeError, match="spoils the scales of an 8-bit base"):
        check_settings(model, section)
    monkeypatch.setattr(methods, "pick_device", lambda: torch.device("cuda"))
    check_settings(model, section)


def test_a_start_that_changes_the_base_is_refused_where_weights_are_spread(monkeypatch):
    from burnish.training import methods

    section = TrainSection.model_validate({"lora": {"init_lora_weights": "pissa"}})
    check_settings(ModelSection(), section)
    monkeypatch.setattr(methods.sharded, "is_asked_for", lambda: True)
    with pytest.raises(RecipeError, match="pissa changes weights that FSDP spreads"):
        check_settings(ModelSection(), section)


@pytest.mark.parametrize("kind", ["cpu", "mps"])
def test_activations_are_offloaded_from_gpus_alone(tmp_path, kind, monkeypatch):
    from burnish.training import methods

    section = TrainSection(activation_offloading=True)
    monkeypatch.setattr(methods, "pick_device", lambda: torch.device(kind))
    with pytest.raises(RecipeError, match=rf"activation_offloading.*this run is on {kind}"):
        train(ModelSection(name_or_path="/no/such/model"), section, RunDir(tmp_path))
    monkeypatch.setattr(methods, "pick_device", lambda: torch.device("cuda"))
    check_settings(ModelSection(), section)
    monkeypatch.setattr(methods.sharded, "is_asked_for", lambda: True)
    with pytest.raises(RecipeError, match="spread over processes can't be told from activations"):
        check_settings(ModelSection(), section)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"torch_compile": True}, "train.torch_compile has no effect"),
        ({"speed": "int8"}, "train.speed: int8 has no effect"),
        ({"backend": "fast"}, "train.backend: fast has no effect"),
    ],
)
def test_what_is_passed_over_where_weights_are_spread_is_said(settings, said, monkeypatch, capfd):
    from burnish.training import methods

    check_settings(ModelSection(), TrainSection(**settings))
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(methods.sharded, "is_asked_for", lambda: True)
    check_settings(ModelSection(), TrainSection())
    assert capfd.readouterr().err == ""
    check_settings(ModelSection(), TrainSection(**settings))
    assert f"{said} where weights are spread over processes" in capfd.readouterr().err


def test_a_quantized_checkpoint_is_not_trained_whole(tmp_path):
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}')
    with pytest.raises(BurnishError, match="are quantized by gptq, and can't be changed"):
        load_trainable(
            tmp_path,
            ModelSection(name_or_path=str(tmp_path)),
            TrainSection(method="full"),
            compute=torch.float32,
        )


def test_continued_pretraining_supervises_every_token_of_a_passage(tmp_path, tiny_model):
    from datasets import load_from_disk

    text = (
        "run_dir: {folder}/run\n"
        f"model: {{{{name_or_path: {tiny_model}}}}}\n"
        "data: {{sources: [{{path: {data}, layout: text}}]}}\n"
        "prepare: {{max_length: 128, validation_size: 0.2, test_size: 0.2}}\n"
    )
    rows = [{"text": f"Passage {i}: the {i * 7 % 10} rivers of a country."} for i in range(40)]
    loaded = load_recipe(
        write_recipe(tmp_path, text, rows), [f"train={json.dumps({**SETTINGS, 'max_steps': 8})}"]
    )
    for name in ("clean", "prepare"):
        run_stage(name, loaded)
    run = RunDir(loaded.run_dir)
    for row in load_from_disk(str(run.split("train"))):
        assert row["labels"][1:] == row["input_ids"][1:]
    check_whole_way(loaded, run)
