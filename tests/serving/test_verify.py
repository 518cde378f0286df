"""Servers with planted defects are found out, each by its name; clean ones pass."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from datetime import date, timedelta

import pytest

from burnish.errors import ParityError, RecipeError, RunError, ServingError
from burnish.parity.certificate import certify, write_certificate
from burnish.recipe import ModelSection, ServeSection
from burnish.run_dir import RunDir
from burnish.serving.engine import Engine
from burnish.serving.verify import Asking, verify_prompts
from tests.conftest import CHATML, byte_tokenizer, tiny_llama
from tests.parity.test_certificate import DATED
from tests.rendering.shapes import WITH_TOOLS, of_shape
from tests.serving.fake_servers import listening, llama_cpp, vllm
from tests.serving.test_app import serving

SHAPES = ["chatml", "llama_3", "gemma", "llama_2", "closed_with_eos", "thinks_last", "plain_zh"]
UNSAFE = "user text becomes control tokens"
NICE = {"role": "system", "content": "Be nice."}


def run_of(folder, tokenizer, *, today=None):
    """A run folder as prepare leaves it, as far as prompts go."""
    run = RunDir(folder / "run")
    tokenizer.save_pretrained(run.tokenizer)
    write_certificate(certify(tokenizer, today=today), run.prompts)
    return run


def verified(run, url, section=None, **asking):
    section = section or ServeSection()
    return verify_prompts(ModelSection(), section, run, url, Asking(**asking))


def with_default(messages):
    return messages if messages[0]["role"] == "system" else [NICE, *messages]


def stripped(messages):
    return [{**m, "content": m["content"].strip()} for m in messages]


@contextlib.contextmanager
def burnish_serving(tokenizer, section=None):
    engine = Engine(tiny_llama(len(tokenizer)), tokenizer)
    try:
        with serving(engine, section or ServeSection()) as client:
            yield str(client.base_url)
    finally:
        engine.close()


@pytest.mark.parametrize("shape", SHAPES)
def test_burnish_serve_has_no_finding(tmp_path, shape):
    tokenizer = of_shape(shape)
    with burnish_serving(tokenizer) as url:
        report = verified(run_of(tmp_path, tokenizer), url, api="burnish", strict=True)
    assert report.num_equal == report.num_probes >= 14
    assert (report.refused, report.notes, report.warnings) == ([], [], [])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_clean_vllm_has_equal_prompts_but_for_control_tokens_in_user_text(tmp_path, shape):
    tokenizer = of_shape(shape)
    with listening(vllm(tokenizer)) as fake:
        report = verified(run_of(tmp_path, tokenizer), fake.url)
    assert report.num_probes - report.num_equal in (2, 3)  # the markers of this family
    (warning,) = report.warnings
    assert warning.startswith(f"{UNSAFE}: in the probe 'markers of")
    assert report.api == "vLLM's /tokenize"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("add_bos", [False, True])
def test_a_clean_llama_cpp_has_too(tmp_path, shape, add_bos):
    tokenizer = of_shape(shape)
    told = [r for r in certify(tokenizer).renderings if not r.refused]
    starts = all(r.prompt_ids[0] == tokenizer.bos_token_id for r in told)
    with listening(llama_cpp(tokenizer, add_bos=add_bos and starts)) as fake:
        report = verified(run_of(tmp_path, tokenizer), fake.url)
    assert [w.partition(":")[0] for w in report.warnings] == [UNSAFE]


def test_strictly_such_a_server_is_refused(tmp_path, tokenizer):
    with listening(vllm(tokenizer)) as fake:
        with pytest.raises(ParityError, match=UNSAFE) as caught:
            verified(run_of(tmp_path, tokenizer), fake.url, strict=True)
    assert "then '<' (id" in caught.value.problem
    assert "then '<|im_end|>' (id 2)" in caught.value.problem
    assert "serve with burnish serve" in caught.value.remedy


def twice(ids):
    return [ids[0], *ids]


DEFECTS = {
    "a default system prompt": (lambda t: vllm(t, change=with_default), "train with it"),
    "a second bos": (lambda t: vllm(t, after=twice), "add_bos_token: false"),
    "white space is trimmed": (lambda t: vllm(t, change=stripped), "trim the rows"),
    "another tokenizer": (lambda t: vllm(moved_up(t)), "the run's own tokenizer"),
    "another chat template": (lambda t: vllm(edited(t)), "5-merge/model"),
}


def edited(tokenizer):
    return byte_tokenizer(CHATML.replace("<|im_start|>", "<|im_start|> "))


class moved_up:
    """A tokenizer whose ordinary tokens all have other ids."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def _moved(self, ids):
        return [token if token < 3 else token + 1 for token in ids]

    def __call__(self, text, **options):
        return {"input_ids": self._moved(self._tokenizer(text, **options)["input_ids"])}

    def apply_chat_template(self, messages, **options):
        return self._moved(self._tokenizer.apply_chat_template(messages, **options))


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found_named_and_has_its_remedy(tmp_path, tokenizer, name):
    make, remedy = DEFECTS[name]
    with listening(make(tokenizer)) as fake:
        with pytest.raises(ParityError) as caught:
            verified(run_of(tmp_path, tokenizer), fake.url)
    assert caught.value.problem.startswith(f"{name}: ")
    assert "training saw" in caught.value.problem
    assert remedy in caught.value.remedy
    assert caught.value.where == fake.url
    assert caught.value.exit_code == 2


def test_a_default_system_prompt_is_shown_with_its_text(tmp_path, tokenizer):
    with listening(llama_cpp(tokenizer, change=with_default)) as fake:
        with pytest.raises(ParityError) as caught:
            verified(run_of(tmp_path, tokenizer), fake.url)
    assert r"'<|im_start|>system\nBe nice.<|im_end|>\n' is added" in caught.value.problem


def test_a_second_bos_of_llama_cpp_is_found(tmp_path):
    tokenizer = of_shape("llama_3")
    with listening(llama_cpp(tokenizer, add_bos=True, strips_bos=False)) as fake:
        with pytest.raises(ParityError, match="a second bos"):
            verified(run_of(tmp_path, tokenizer), fake.url)


def test_a_template_edited_in_the_run_after_training_is_found_before_a_server_is_asked(tmp_path):
    run = run_of(tmp_path, byte_tokenizer())
    edited(None).save_pretrained(run.tokenizer)
    with pytest.raises(ParityError, match="another chat template") as caught:
        verified(run, "http://127.0.0.1:1")
    assert caught.value.where == str(run.tokenizer)


def test_a_role_that_the_server_refuses_and_training_did_not_is_found(tmp_path, tokenizer):
    routes = vllm(tokenizer)
    tokenize = routes["/tokenize"]

    def refusing(body):
        if body.get("messages", [{}])[0].get("role") == "system":
            return 400, {"error": {"message": "System role not supported"}}
        return tokenize(body)

    with listening(routes | {"/tokenize": refusing}) as fake:
        with pytest.raises(ParityError, match=r"refused: 'system prompt' is refused: .*not supp"):
            verified(run_of(tmp_path, tokenizer), fake.url)


def test_the_recipes_own_system_prompt_is_said_and_no_finding(tmp_path, tokenizer):
    run = run_of(tmp_path, tokenizer)
    section = ServeSection(system_prompt="Be nice.")
    with burnish_serving(tokenizer, section) as url:
        report = verified(run, url, section, strict=True)
        assert report.notes == ["the server adds the recipe's serve.system_prompt: 'Be nice.'"]
        assert report.num_equal == report.num_probes
        with pytest.raises(ParityError, match="a default system prompt"):
            verified(run, url)


def test_a_server_that_adds_another_system_prompt_than_the_recipes_is_found(tmp_path, tokenizer):
    with listening(vllm(tokenizer, change=with_default)) as fake:
        with pytest.raises(ParityError, match="a default system prompt"):
            verified(run_of(tmp_path, tokenizer), fake.url, ServeSection(system_prompt="Be quick."))


def test_a_template_that_writes_the_date_is_compared_for_today_and_that_is_said(tmp_path):
    tokenizer = byte_tokenizer(DATED)
    before = date.today() - timedelta(days=40)
    with listening(vllm(tokenizer)) as fake:
        report = verified(run_of(tmp_path, tokenizer, today=before), fake.url)
    assert report.notes == [
        f"the chat template writes the date; training saw {before.isoformat()} only"
    ]
    assert [w.partition(":")[0] for w in report.warnings] == [UNSAFE]


TOOLS = CHATML.replace("{% for", "{% if tools %}{{ tools | tojson + '\n' }}{% endif %}{% for", 1)


def test_tools_written_otherwise_are_a_warning(tmp_path):
    tokenizer = byte_tokenizer(TOOLS)
    other = byte_tokenizer(TOOLS.replace("tojson", "tojson(indent=2)"))
    run = run_of(tmp_path, tokenizer)
    with listening(vllm(tokenizer)) as fake:
        assert [w.partition(":")[0] for w in verified(run, fake.url).warnings] == [UNSAFE]
    with listening(vllm(other)) as fake:
        warnings = verified(run, fake.url).warnings
    assert [w.partition(":")[0] for w in warnings] == [UNSAFE, "tools are written otherwise"]


def test_burnish_serve_writes_tools_as_training_does(tmp_path):
    tokenizer = byte_tokenizer(WITH_TOOLS)
    with burnish_serving(tokenizer) as url:
        report = verified(run_of(tmp_path, tokenizer), url, strict=True)
    assert report.refused == []
    assert report.num_equal == report.num_probes


def test_a_server_that_takes_no_tools_is_said_to_and_no_finding(tmp_path):
    tokenizer = byte_tokenizer(WITH_TOOLS)
    routes = vllm(tokenizer)
    own = routes["/tokenize"]
    routes["/tokenize"] = lambda body: (400, {}) if body.get("tools") else own(body)
    with listening(routes) as fake:
        report = verified(run_of(tmp_path, tokenizer), fake.url)
    assert [refused.partition(":")[0] for refused in report.refused] == ["tool", "tool result"]
    assert all("status 400" in refused for refused in report.refused)


def test_a_tokenizer_of_the_servers_own_making_that_splits_rare_characters_is_a_warning(
    tmp_path, tokenizer
):
    def other(ids):
        # "½" is the bytes c2 bd; this server has a token of its own for it.
        half = tokenizer("½", add_special_tokens=False)["input_ids"]
        text = ",".join(map(str, ids)).replace(",".join(map(str, half)), "999")
        return [int(token) for token in text.split(",")]

    with listening(vllm(tokenizer, after=other)) as fake:
        report = verified(run_of(tmp_path, tokenizer), fake.url)
    names = [w.partition(":")[0] for w in report.warnings]
    assert names == [UNSAFE, "rare characters become other tokens"]
    assert "then '<999>' (id 999)" in report.warnings[1]


def test_any_ids_that_a_server_makes_up_can_be_shown(tmp_path, tokenizer):
    with listening({"/tokenize": lambda body: {"tokens": [-1, 10**30, 2**31, 2]}}) as fake:
        with pytest.raises(ParityError, match="another tokenizer") as caught:
            verified(run_of(tmp_path, tokenizer), fake.url)
    assert "then '<-1>' (id -1) then '<1000" in caught.value.problem


def test_a_run_without_certificate_and_a_way_that_is_none_are_refused(tmp_path, tokenizer):
    run = run_of(tmp_path, tokenizer)
    with pytest.raises(RecipeError, match="there is no 'tgi'") as caught:
        verified(run, "http://127.0.0.1:1", api="tgi")
    assert caught.value.remedy == "Choose: auto, vllm, llama.cpp, burnish."
    with pytest.raises(ServingError, match="does not answer"):
        verified(run, "http://127.0.0.1:1")
    run.prompts.unlink()
    with pytest.raises(RunError, match="an older burnish"):
        verified(run, "http://127.0.0.1:1")


def test_the_command_prints_its_report_and_ends_with_2_on_a_mismatch(tmp_path, tiny_recipe):
    from burnish.pipeline import run_stage

    for stage in ("clean", "prepare"):
        run_stage(stage, tiny_recipe)
    tokenizer = byte_tokenizer()
    command = [sys.executable, "-m", "burnish", "verify-prompts", str(tmp_path / "recipe.yaml")]

    def called(url):
        return subprocess.run([*command, url, "--json"], capture_output=True, text=True)

    with burnish_serving(tokenizer) as url:
        done = called(url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_equal"] == 17
    with listening(vllm(tokenizer, after=twice)) as fake:
        done = called(fake.url)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {fake.url}: a second bos: ")
