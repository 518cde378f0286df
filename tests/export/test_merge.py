"""Merging: the merged model answers as base + adapter does, in plain transformers."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from burnish.conversation import Message
from burnish.errors import ExportError
from burnish.export.merge import compare, merge
from burnish.generation import Sampling, generate
from burnish.models.loading import load_artifact
from burnish.recipe import MergeSection
from burnish.rendering import render_prompt
from burnish.run_dir import RunDir
from tests.conftest import byte_tokenizer, tiny_llama
from tests.export.conftest import save_model, tuned_run


@pytest.fixture(scope="module")
def merged(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("merged")
    loaded = tuned_run(folder, tiny_model)
    run = RunDir(loaded.run_dir)
    return merge(loaded.recipe.model, MergeSection(), run), run, loaded.recipe.model


def test_the_merged_model_agrees_with_base_and_adapter(merged):
    report, run, _ = merged
    parity = json.loads((run.folder("merge") / "parity.json").read_text())
    assert parity["num_probes"] == 4
    assert parity["max_logit_difference"] == report.max_logit_difference < 1e-4
    assert parity["kl_divergence"] == report.kl_divergence < 1e-6
    assert parity["same_top_token"] == 1.0
    assert report.bytes == sum(p.stat().st_size for p in run.merged.glob("*.safetensors"))


def test_the_adapter_is_in_it_and_no_pickle_is(merged, tiny_model):
    _, run, _ = merged
    base = AutoModelForCausalLM.from_pretrained(tiny_model).state_dict()
    state = AutoModelForCausalLM.from_pretrained(run.merged).state_dict()
    assert state.keys() == base.keys()
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(state[name], base[name])
    suffixes = {p.suffix for p in run.merged.iterdir()}
    assert suffixes == {".safetensors", ".json", ".jinja"}


def test_it_loads_in_plain_transformers_with_template_and_stop_tokens(merged):
    _, run, section = merged
    model = AutoModelForCausalLM.from_pretrained(run.merged)
    tokenizer = AutoTokenizer.from_pretrained(run.merged)
    assert tokenizer.chat_template == byte_tokenizer().chat_template
    assert model.generation_config.eos_token_id == 2
    assert model.generation_config.pad_token_id == 0
    question = [{"role": "user", "content": "Question 3?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True)["input_ids"]
    assert prompt == render_prompt([Message("user", "Question 3?")], tokenizer)
    output = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=12,
        do_sample=False,
    )[0, len(prompt) :].tolist()
    for artifact in ("merged", "adapter"):
        ours = load_artifact(artifact, section, run)
        (ids,) = generate(ours, [prompt], Sampling(max_new_tokens=12), stop_ids=[2])
        assert ids == [token for token in output if token != 2]


def test_a_wanted_dtype_is_written_and_loaded(tmp_path, tiny_model):
    loaded = tuned_run(tmp_path, tiny_model)
    run = RunDir(loaded.run_dir)
    report = merge(loaded.recipe.model, MergeSection(dtype="bfloat16"), run)
    assert report.dtype == "bfloat16"
    assert report.kl_divergence < 1e-3
    assert AutoModelForCausalLM.from_pretrained(run.merged).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_of_a_4_bit_base_is_merged_into_the_whole_base(tmp_path, tiny_model):
    pytest.importorskip("bitsandbytes")
    loaded = tuned_run(tmp_path, tiny_model, "load_in_4bit: true")
    run = RunDir(loaded.run_dir)
    report = merge(loaded.recipe.model, MergeSection(), run)
    assert report.kl_divergence < 1e-6
    base = AutoModelForCausalLM.from_pretrained(tiny_model).state_dict()
    state = AutoModelForCausalLM.from_pretrained(run.merged).state_dict()
    name = "model.layers.0.input_layernorm.weight"
    assert torch.equal(state[name], base[name])
    name = "model.layers.0.self_attn.q_proj.weight"
    # Rank 2: what was added to the exact base weight, not to one rounded to 4 bits.
    assert torch.linalg.matrix_rank(state[name] - base[name], tol=1e-5) <= 2


def test_a_base_whose_generation_config_contradicts_itself_is_still_saved(tmp_path):
    model = tiny_llama(len(byte_tokenizer()))
    folder = save_model(model, tmp_path / "base")
    settings = json.loads((folder / "generation_config.json").read_text())
    settings |= {"do_sample": False, "temperature": 0.9, "top_p": 0.6}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    loaded = tuned_run(tmp_path, folder)
    run = RunDir(loaded.run_dir)
    merge(loaded.recipe.model, MergeSection(), run)
    assert AutoModelForCausalLM.from_pretrained(run.merged).generation_config.eos_token_id == 2


def test_a_merge_that_changes_the_answers_is_refused_and_the_old_one_stays(
    tmp_path, tiny_model, monkeypatch
):
    from peft.tuners.lora import LoraModel

    loaded = tuned_run(tmp_path, tiny_model)
    run = RunDir(loaded.run_dir)
    merge(loaded.recipe.model, MergeSection(), run)
    before = (run.merged / "model.safetensors").read_bytes()
    monkeypatch.setattr(
        LoraModel, "merge_and_unload", lambda self, **_: tiny_llama(len(byte_tokenizer()), seed=9)
    )
    with pytest.raises(ExportError, match="does not answer like base") as caught:
        merge(loaded.recipe.model, MergeSection(), run)
    assert "serve.artifact: adapter" in caught.value.remedy
    assert (run.merged / "model.safetensors").read_bytes() == before


def test_the_distance_of_two_models_is_worked_out_by_hand():
    first = [torch.tensor([[0.0, 0.0]])]
    second = [torch.tensor([[torch.log(torch.tensor(3.0)), 0.0]])]
    parity = compare(first, second)
    # p = (1/2, 1/2), q = (3/4, 1/4): KL = 0.5 ln(2/3) + 0.5 ln 2 = 0.14384
    assert parity["kl_divergence"] == pytest.approx(0.143841, abs=1e-6)
    assert parity["max_logit_difference"] == pytest.approx(1.098612, abs=1e-6)
    assert parity["same_top_token"] == 1.0
    assert compare(first, first)["kl_divergence"] == 0.0
