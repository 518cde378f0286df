"""Ways in which servers tell the tokens of a prompt.

vLLM's POST /tokenize takes messages (that of `burnish serve`, too). llama.cpp's server has POST
/apply-template and then /tokenize for text. And chat completions of vLLM echo `prompt_token_ids`
when asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.conversation import Conversation
from burnish.errors import ServingError
from burnish.parity.probes import PLAIN_TEXT
from burnish.serving.remote import ASKS_FOR_KEY, Refused, Remote

_NOT_THERE = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class Way:
    """A way to learn a prompt's ids from a server, and those of plain text where it can tell."""

    name: str
    prompt: Callable[[Remote, str | None, Conversation], list[int]]
    text: Callable[[Remote, str | None], list[int]] | None = None


class NotOffered(ServingError):
    """The server does not tell in this way."""


def first_model(server: Remote) -> str | None:
    """What a server calls the first model that it lists; None if it lists none."""
    try:
        listed = server.get("/v1/models")
        return str(listed["data"][0]["id"])
    except (Refused, KeyError, IndexError, TypeError):
        return None


def find_way(server: Remote, name: str | None, probe: Conversation, ways: Sequence[Way]) -> Way:
    """The first of these ways in which a server tells the ids of a probe.

    Raises:
        ServingError: it tells them in none of these ways, or does not answer.
    """
    reasons = []
    for way in ways:
        try:
            way.prompt(server, name, probe)
        except (NotOffered, Refused) as error:
            if isinstance(error, Refused) and error.status in ASKS_FOR_KEY:
                raise
            reasons.append(error.problem.removesuffix("."))
        else:
            return way
    raise ServingError(
        server.base,
        f"this server does not tell the tokens of its prompts ({'; '.join(reasons)}).",
        "Servers that do: burnish serve, vLLM, and llama.cpp's llama-server.",
    )


def _messages(conversation: Conversation) -> list[dict[str, Any]]:
    """What is asked, in OpenAI's form: the arguments of a call are text there, and it has an id."""
    messages: list[dict[str, Any]] = []
    for message in conversation.question:
        value = message.as_dict()
        for call in value.get("tool_calls", ()):
            function = call["function"]
            call.setdefault("id", "call00001")
            call["function"] = {
                "name": function["name"],
                "arguments": json.dumps(function["arguments"]),
            }
        if message.role == "tool":
            value.setdefault("tool_call_id", "call00001")
        messages.append(value)
    return messages


def _request(name: str | None, conversation: Conversation, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": _messages(conversation), **fields}
    if name is not None:
        body["model"] = name
    if conversation.tools:
        body["tools"] = list(conversation.tools)
    return body


def _ask_tokenize(server: Remote, name: str | None, conversation: Conversation) -> list[int]:
    body = _request(name, conversation, add_generation_prompt=True, add_special_tokens=False)
    return _ids(server, "/tokenize", body, "tokens")


def _text_tokenize(server: Remote, name: str | None) -> list[int]:
    body: dict[str, Any] = {"prompt": PLAIN_TEXT, "add_special_tokens": False}
    return _ids(server, "/tokenize", body | ({"model": name} if name else {}), "tokens")


def _ask_llama_cpp(server: Remote, name: str | None, conversation: Conversation) -> list[int]:
    """The ids of llama.cpp's chat completions.

    Its template's text comes without a bos where its tokenizer adds one, and completions encode
    the text with `add_special` and `parse_special`; so both are asked for here.
    """
    reply = _told(server, "/apply-template", _request(name, conversation))
    prompt = reply.get("prompt") if isinstance(reply, dict) else None
    if not isinstance(prompt, str):
        raise NotOffered(server.base, 'no "prompt" in the answer of /apply-template', "")
    body = {"content": prompt, "add_special": True, "parse_special": True}
    return _ids(server, "/tokenize", body, "tokens")


def _text_llama_cpp(server: Remote, name: str | None) -> list[int]:
    body = {"content": PLAIN_TEXT, "add_special": False, "parse_special": True}
    return _ids(server, "/tokenize", body, "tokens")


def _ask_echo(server: Remote, name: str | None, conversation: Conversation) -> list[int]:
    body = _request(name, conversation, max_tokens=1, temperature=0, return_token_ids=True)
    return _ids(server, "/v1/chat/completions", body, "prompt_token_ids")


def _told(server: Remote, path: str, body: dict[str, Any]) -> Any:
    try:
        return server.post(path, body)
    except Refused as error:
        if error.status in _NOT_THERE:
            raise NotOffered(server.base, f"{path}: {error.problem}", "") from None
        raise


def _ids(server: Remote, path: str, body: dict[str, Any], field: str) -> list[int]:
    reply = _told(server, path, body)
    ids = reply.get(field) if isinstance(reply, dict) else None
    if not isinstance(ids, list) or not ids or not all(type(token) is int for token in ids):
        raise NotOffered(server.base, f'no list of ids as "{field}" in the answer of {path}', "")
    return ids


_TOKENIZE = Way("vLLM's /tokenize", _ask_tokenize, _text_tokenize)
_LLAMA_CPP = Way("llama.cpp's /apply-template and /tokenize", _ask_llama_cpp, _text_llama_cpp)
_ECHO = Way("prompt_token_ids of chat completions", _ask_echo)

WAYS: dict[str, Sequence[Way]] = {
    "auto": (_TOKENIZE, _LLAMA_CPP, _ECHO),
    "vllm": (_TOKENIZE, _ECHO),
    "llama.cpp": (_LLAMA_CPP,),
    "burnish": (_TOKENIZE,),
}
