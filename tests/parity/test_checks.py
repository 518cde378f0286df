"""Planted defects in a run's own files are found; clean ones raise nothing."""

from __future__ import annotations

import shutil
import time
from datetime import date

import datasets
import pytest
from transformers import AutoTokenizer

from burnish.errors import ModelError, ParityError, RunError
from burnish.parity.certificate import certify, read_certificate
from burnish.parity.checks import check_base, check_folder, check_rows, check_run, check_tokenizer
from burnish.pipeline import run_stage
from burnish.recipe import ModelSection, ServeSection
from burnish.rendering import load_tokenizer, pin_date
from burnish.run_dir import RunDir
from tests.conftest import CHATML, byte_tokenizer
from tests.export.conftest import tuned_run
from tests.rendering.shapes import of_shape

MODEL = ModelSection()

EDITS = {
    "a default system prompt": "{{ '<|im_start|>system\nBe nice.<|im_end|>\n' "
    "if messages[0]['role'] != 'system' }}" + CHATML,
    "a second bos": "{{ '<|im_start|>' }}" + CHATML,
    "white space is trimmed": CHATML.replace("message['content']", "message['content'] | trim"),
    "another chat template": CHATML.replace("<|im_start|>", "<|im_start|> "),
}
"""The name that each edit of the template must be found by."""


@pytest.fixture
def prepared(tiny_recipe):
    for stage in ("clean", "prepare"):
        run_stage(stage, tiny_recipe)
    return tiny_recipe, RunDir(tiny_recipe.run_dir)


def edit(folder, template):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    "shape", ["chatml", "llama_3", "gemma", "llama_2", "closed_with_eos", "thinks_last", "plain_zh"]
)
def test_a_model_that_nobody_changed_is_no_finding(tmp_path, shape):
    tokenizer = of_shape(shape)
    certificate = certify(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    started = time.process_time()
    check_tokenizer(certificate, load_tokenizer(tmp_path, MODEL), "run")
    check_folder(certificate, MODEL, tmp_path)
    assert time.process_time() - started < 1.0  # a stage must not wait for it


@pytest.mark.parametrize("name", EDITS)
def test_a_template_edited_in_a_saved_model_is_found_and_named(tmp_path, name):
    tokenizer = byte_tokenizer()
    certificate = certify(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    edit(tmp_path, EDITS[name])
    with pytest.raises(ParityError, match=name) as caught:
        check_folder(certificate, MODEL, tmp_path)
    assert caught.value.where == str(tmp_path)
    assert "differs" in caught.value.problem
    assert caught.value.remedy
    with pytest.raises(ParityError, match=name):
        check_tokenizer(certificate, load_tokenizer(tmp_path, MODEL), "run")


def test_an_edit_that_no_probe_shows_is_found_by_the_templates_hash(tmp_path):
    tokenizer = byte_tokenizer()
    certificate = certify(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    edit(tmp_path, CHATML + "{# a remark #}")
    with pytest.raises(ParityError, match="its text was changed"):
        check_folder(certificate, MODEL, tmp_path)
    with pytest.raises(ParityError, match="its text was changed"):
        check_tokenizer(certificate, load_tokenizer(tmp_path, MODEL), "run")


@pytest.mark.parametrize(
    "template, what",
    [
        ("{{ 'a' * 10**9 }}", "more than 512 MiB"),
        ("{% for a in range(99999) %}" * 2 + "{% endfor %}" * 2, "more than 2 s"),
    ],
)
def test_a_template_that_was_put_into_a_saved_model_is_rendered_under_limits(
    tmp_path, template, what
):
    tokenizer = byte_tokenizer()
    certificate = certify(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    edit(tmp_path, template)
    with pytest.raises(ModelError, match=what) as caught:
        check_folder(certificate, MODEL, tmp_path)
    assert caught.value.where == str(tmp_path)


def test_a_base_whose_template_writes_the_date_is_checked_for_the_day_of_prepare(tmp_path):
    tokenizer = byte_tokenizer("{{ strftime_now('%d %b %Y') }}" + CHATML)
    tokenizer.save_pretrained(tmp_path / "base")
    pin_date(tokenizer, date(2026, 3, 9))
    certificate = certify(tokenizer)
    assert certificate.day == "2026-03-09"
    check_base(certificate, MODEL, tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "merged")
    check_folder(certificate, MODEL, tmp_path / "merged")
    # Other servers would write another date every day.
    with pytest.raises(ParityError, match="its text was changed"):
        check_folder(certificate, MODEL, tmp_path / "base")


def test_a_model_that_lost_its_template_is_found(tmp_path):
    tokenizer = byte_tokenizer()
    certificate = certify(tokenizer)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ParityError, match="'one question' is refused"):
        check_folder(certificate, MODEL, tmp_path)


def test_a_model_without_a_tokenizer_is_found(tmp_path):
    with pytest.raises(ParityError, match="its tokenizer can't be loaded"):
        check_folder(certify(byte_tokenizer()), MODEL, tmp_path)


def swapped(folder):
    """A tokenizer with the same template and control tokens, whose bytes have other ids."""
    import json

    byte_tokenizer().save_pretrained(folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocab = content["model"]["vocab"]
    vocab["H"], vocab["I"] = vocab["I"], vocab["H"]
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_tokenizer_swapped_for_another_is_told_from_another_template(tmp_path):
    certificate = certify(byte_tokenizer())
    swapped(tmp_path)
    with pytest.raises(ParityError, match="another tokenizer: plain text") as caught:
        check_folder(certificate, MODEL, tmp_path)
    # The text begins with "Hello": its first token is at fault.
    assert "token 1 differs" in caught.value.problem
    with pytest.raises(ParityError, match="another tokenizer"):
        check_tokenizer(certificate, load_tokenizer(tmp_path, MODEL), "run")


def test_other_labels_on_the_same_ids_are_found(tokenizer):
    from dataclasses import replace

    certificate = certify(tokenizer)
    first, *others = certificate.renderings
    masked = replace(first, labels=[-100] * len(first.labels))
    changed = replace(certificate, renderings=[masked, *others])
    with pytest.raises(ParityError, match="other labels: the probe 'one question'"):
        check_tokenizer(changed, tokenizer, "run")


def test_a_prepared_run_holds_a_certificate_that_its_tokenizer_fulfils(prepared):
    loaded, run = prepared
    certificate = check_run(loaded.recipe.model, run)
    assert certificate == read_certificate(run)
    assert "prompts.json" in run.read_manifest()["stages"]["prepare"]["outputs"]


def test_prepared_rows_are_what_their_conversations_render_to(prepared):
    loaded, run = prepared
    tokenizer = load_tokenizer(run.tokenizer, loaded.recipe.model)
    rows = datasets.load_from_disk(str(run.split("train")))
    certificate = read_certificate(run)
    check_rows(certificate, rows, tokenizer, "train")
    changed = [dict(row) for row in rows]
    changed[2]["input_ids"] = [*changed[2]["input_ids"][:4], 7, *changed[2]["input_ids"][5:]]
    with pytest.raises(ParityError, match="token 5 differs") as caught:
        check_rows(certificate, changed, tokenizer, "train")
    assert caught.value.where == f"train, {changed[2]['origin']}"
    masked = [dict(row) for row in rows]
    masked[0]["labels"] = [-100] * len(masked[0]["labels"])
    with pytest.raises(ParityError, match="labels lie on other tokens"):
        check_rows(certificate, masked, tokenizer, "train")


def train(loaded, run):
    from burnish.training.train import train as stage

    return stage(loaded.recipe.model, loaded.recipe.train, run)


def test_training_refuses_a_tokenizer_that_was_edited_after_prepare(prepared):
    loaded, run = prepared
    edit(run.tokenizer, EDITS["a default system prompt"])
    with pytest.raises(ParityError, match="a default system prompt") as caught:
        train(loaded, run)
    assert caught.value.where == str(run.tokenizer)
    assert not run.adapter.exists()


def test_training_refuses_a_model_whose_template_was_edited_after_prepare(tmp_path, tiny_model):
    from burnish.recipe_file import load_recipe
    from tests.conftest import write_recipe

    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    text = f"run_dir: {{folder}}/run\nmodel: {{{{name_or_path: {folder}}}}}\n"
    loaded = load_recipe(write_recipe(tmp_path, text + "data: {{sources: [{{path: {data}}}]}}\n"))
    for stage in ("clean", "prepare"):
        run_stage(stage, loaded)
    run = RunDir(loaded.run_dir)
    check_base(read_certificate(run), loaded.recipe.model, folder)
    edit(folder, EDITS["another chat template"])
    with pytest.raises(ParityError, match="another chat template") as caught:
        train(loaded, run)
    assert caught.value.where == str(folder)


@pytest.fixture(scope="module")
def merged(tmp_path_factory, tiny_model):
    loaded = tuned_run(tmp_path_factory.mktemp("parity"), tiny_model)
    run_stage("merge", loaded)
    return loaded, RunDir(loaded.run_dir)


def test_a_merged_model_renders_the_probes_in_plain_transformers(merged):
    loaded, run = merged
    check_folder(read_certificate(run), loaded.recipe.model, run.merged)


def refuses(work, where, name="another chat template"):
    with pytest.raises(ParityError, match=name) as caught:
        work()
    assert caught.value.where == str(where)
    assert caught.value.remedy


def test_quantizing_and_serving_refuse_a_merged_model_whose_template_was_edited(merged, tmp_path):
    from burnish.export.quantize import quantize
    from burnish.serving.serve import load_engine

    loaded, source = merged
    shutil.copytree(source.path, tmp_path / "run")
    run, recipe = RunDir(tmp_path / "run"), loaded.recipe
    edit(run.merged, EDITS["another chat template"])
    refuses(lambda: quantize(recipe.model, recipe.quantize, run), run.merged)
    refuses(lambda: load_engine(recipe.model, ServeSection(), run), run.merged)


def test_every_stage_refuses_a_run_whose_tokenizer_was_swapped(merged, tmp_path):
    from burnish.evaluation.evaluate import evaluate
    from burnish.export.merge import merge
    from burnish.export.quantize import quantize
    from burnish.serving.serve import load_engine

    loaded, source = merged
    shutil.copytree(source.path, tmp_path / "run")
    run, recipe = RunDir(tmp_path / "run"), loaded.recipe
    swapped(run.tokenizer)
    for work in (
        lambda: train(loaded, run),
        lambda: evaluate(recipe.model, recipe.evaluate, run),
        lambda: merge(recipe.model, recipe.merge, run),
        lambda: quantize(recipe.model, recipe.quantize, run),
        lambda: load_engine(recipe.model, ServeSection(), run),
    ):
        refuses(work, run.tokenizer, "another tokenizer")


def test_calibration_rows_that_were_changed_are_refused(merged, tmp_path):
    from burnish.export.quantize import quantize

    loaded, source = merged
    shutil.copytree(source.path, tmp_path / "run")
    run = RunDir(tmp_path / "run")
    rows = datasets.load_from_disk(str(run.split("train"))).to_list()
    for row in rows:
        row["input_ids"][3] = 7
    shutil.rmtree(run.split("train"))
    datasets.Dataset.from_list(rows).save_to_disk(str(run.split("train")))
    with pytest.raises(ParityError, match="token 4 differs") as caught:
        quantize(loaded.recipe.model, loaded.recipe.quantize, run)
    assert caught.value.where.startswith("calibration, ")


def test_a_system_prompt_of_the_recipe_is_said_when_its_server_starts(merged, capsys):
    from burnish.serving.serve import load_engine

    loaded, run = merged
    load_engine(loaded.recipe.model, ServeSection(system_prompt="Be kind."), run).close()
    assert "no system prompt get serve.system_prompt: 'Be kind.'" in capsys.readouterr().err


def test_a_run_of_an_older_burnish_is_told_to_prepare_again(prepared):
    loaded, run = prepared
    run.prompts.unlink()
    with pytest.raises(RunError, match="an older burnish made it"):
        train(loaded, run)
