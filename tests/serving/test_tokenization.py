"""How each kind of server is asked, and how it is told which kind one is."""

from __future__ import annotations

import pytest

from burnish.conversation import Conversation, Message
from burnish.errors import ServingError
from burnish.parity.probes import PLAIN_TEXT, probes
from burnish.rendering import render_prompt
from burnish.serving.remote import remote
from burnish.serving.tokenization import WAYS, find_way, first_model
from tests.conftest import byte_tokenizer
from tests.rendering.shapes import of_shape
from tests.serving.fake_servers import listening, llama_cpp, vllm

PROBES = {probe.origin: probe for probe in probes([])}
ONE = PROBES["one question"]


def found_way(fake, api="auto"):
    return find_way(remote(fake.url), "tuned", ONE, WAYS[api])


def test_vllm_is_asked_for_the_prompt_of_messages_and_adds_nothing(tokenizer):
    with listening(vllm(tokenizer)) as fake:
        way = found_way(fake)
        ids = way.prompt(remote(fake.url), "tuned", ONE)
        assert ids == render_prompt(ONE.question, tokenizer)
        path, body, _ = fake.requests[-1]
    assert path == "/tokenize"
    assert body == {
        "model": "tuned",
        "messages": [{"role": "user", "content": "What is the capital of Peru?"}],
        "add_generation_prompt": True,
        "add_special_tokens": False,
    }


def test_vllms_plain_text_is_encoded_without_a_bos(tokenizer):
    with listening(vllm(tokenizer)) as fake:
        ids = found_way(fake).text(remote(fake.url), "tuned")
        assert fake.requests[-1][1]["add_special_tokens"] is False
    assert ids == tokenizer(PLAIN_TEXT, add_special_tokens=False)["input_ids"]


def test_llama_cpp_is_told_apart_and_asked_for_a_text_and_then_its_tokens(tokenizer):
    with listening(llama_cpp(tokenizer)) as fake:
        way = found_way(fake)
        fake.requests.clear()
        assert way.prompt(remote(fake.url), None, ONE) == render_prompt(ONE.question, tokenizer)
        (first, _, _), (second, body, _) = fake.requests
    assert (first, second) == ("/apply-template", "/tokenize")
    assert (body["add_special"], body["parse_special"]) == (True, True)
    assert "llama.cpp" in way.name


def test_a_bos_that_llama_cpp_takes_off_the_template_and_adds_itself_is_one():
    tokenizer = of_shape("llama_3")
    with listening(llama_cpp(tokenizer, add_bos=True)) as fake:
        ids = found_way(fake).prompt(remote(fake.url), None, ONE)
    assert ids == render_prompt(ONE.question, tokenizer)
    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_server_that_only_echoes_prompts_is_asked_for_one_token(tokenizer):
    routes = vllm(tokenizer)
    del routes["/tokenize"]
    with listening(routes) as fake:
        way = found_way(fake)
        ids = way.prompt(remote(fake.url), "tuned", ONE)
        body = fake.requests[-1][1]
    assert ids == render_prompt(ONE.question, tokenizer)
    assert (body["max_tokens"], body["return_token_ids"]) == (1, True)
    assert way.text is None


def test_a_call_is_sent_in_openais_form():
    seen = []
    with listening({"/tokenize": lambda body: seen.append(body) or {"tokens": [1]}}) as fake:
        (way,) = WAYS["burnish"]
        way.prompt(remote(fake.url), None, PROBES["tool result"])
    (body,) = seen
    assert "model" not in body
    assert body["tools"][0]["function"]["name"] == "get_weather"
    (call,) = body["messages"][1]["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Lima"}'}
    assert body["messages"][2]["tool_call_id"] == call["id"]


def test_an_id_that_a_call_has_is_sent_as_it_is():
    call = {"name": "f", "arguments": {}}
    turns = (
        Message("user", "a"),
        Message("assistant", "", tool_calls=(call,), call_ids=("mine",)),
        Message("tool", "b", name="f", tool_call_id="mine"),
        Message("assistant", "c"),
    )
    seen = []
    with listening({"/tokenize": lambda body: seen.append(body) or {"tokens": [1]}}) as fake:
        (way,) = WAYS["burnish"]
        way.prompt(remote(fake.url), None, Conversation(turns, "a:1"))
    _, calling, result = seen[0]["messages"]
    assert calling["tool_calls"][0]["id"] == result["tool_call_id"] == "mine"
    assert result["name"] == "f"


BROKEN = [
    {"tokens": []},
    {"tokens": "abc"},
    {"tokens": [1, "2"]},
    {"tokens": [1, True]},
    {"tokens": [1.0]},
    {"prompt": 7},
    {},
    [],
    None,
    7,
    (400, {"error": "no"}),
    (500, {}),
]


@pytest.mark.parametrize("reply", BROKEN, ids=repr)
@pytest.mark.parametrize("api", WAYS)
def test_a_server_that_tells_nothing_of_use_is_said_to(reply, api):
    paths = ("/tokenize", "/apply-template", "/v1/chat/completions")
    with listening(dict.fromkeys(paths, lambda body: reply)) as fake:
        with pytest.raises(ServingError, match="does not tell the tokens") as caught:
            found_way(fake, api)
    assert "vLLM" in caught.value.remedy


def test_a_model_by_a_wrong_name_is_told_in_the_servers_words(tokenizer):
    with listening(vllm(tokenizer)) as fake:
        with pytest.raises(ServingError, match="The model does not exist"):
            find_way(remote(fake.url), "other", ONE, WAYS["burnish"])


def test_a_server_that_asks_for_a_key_is_said_to_and_where_it_goes():
    with listening({"/tokenize": lambda body: (401, {"error": "Unauthorized"})}) as fake:
        with pytest.raises(ServingError, match="status 401") as caught:
            found_way(fake)
    assert caught.value.remedy == "Put its key into the variable BURNISH_SERVER_KEY."


@pytest.mark.parametrize("listed", [{"data": []}, {}, [], None, (404, {}), {"data": [{}]}])
def test_a_server_that_lists_no_models_is_asked_without_a_name(listed):
    with listening({"/v1/models": lambda body: listed}) as fake:
        assert first_model(remote(fake.url)) is None


def test_the_first_model_of_a_server_is_taken():
    with listening(vllm(byte_tokenizer())) as fake:
        assert first_model(remote(fake.url)) == "tuned"
