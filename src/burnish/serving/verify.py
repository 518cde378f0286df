"""The verify-prompts verb: asks a server for the tokens of its prompts, and compares them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from burnish.conversation import Conversation, Message
from burnish.errors import RecipeError
from burnish.parity.certificate import (
    Certificate,
    Rendering,
    on_day,
    render,
    text_of_token,
)
from burnish.parity.checks import check_run
from burnish.parity.findings import (
    Finding,
    compare_prompts,
    compare_text,
    compare_unsafe,
    raise_findings,
)
from burnish.parity.probes import ONE_QUESTION, RARE_CHARACTERS
from burnish.progress import say, warn
from burnish.recipe import ModelSection, ServeSection
from burnish.rendering import has_live_date, load_tokenizer
from burnish.run_dir import RunDir
from burnish.serving.remote import TIMEOUT_SECONDS, Refused, Remote, remote
from burnish.serving.tokenization import WAYS, NotOffered, Way, find_way, first_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_REMEDY = (
    "Serve the run's own tokenizer and chat template (5-merge/model holds both), without another "
    "--chat-template."
)
_RARE_REMEDY = (
    "The server has a tokenizer of its own making; it matters if your users write such characters."
)


class VerifyReport(BaseModel):
    """What was compared, and what is worth knowing although prompts agree."""

    model_config = ConfigDict(frozen=True)

    url: str
    api: str
    num_probes: int
    num_equal: int
    refused: list[str]
    notes: list[str]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Asking:
    """How to ask a server.

    Attributes:
        api: vllm, llama.cpp, burnish, or auto, which tries one after another.
        model: what the server calls the model; None for the first that it lists.
        key: what to send as bearer token.
        strict: makes errors of warnings.
        timeout_seconds: for each request.
    """

    api: str = "auto"
    model: str | None = None
    key: str | None = None
    strict: bool = False
    timeout_seconds: float = TIMEOUT_SECONDS


def verify_prompts(
    model: ModelSection, section: ServeSection, run: RunDir, url: str, asking: Asking
) -> VerifyReport:
    """Asks a server for the prompts of all probes, and compares them with the certificate.

    Args:
        model: the recipe's model section.
        section: its serve section, whose system prompt a server may add.
        run: the run with its certificate.
        url: the server's address.
        asking: how to ask.

    Raises:
        RecipeError: there is no such way to ask.
        ParityError: the server's prompts are not those of training.
        ServingError: the server does not answer, or tells no tokens.
        RunError: the run has no certificate.
    """
    if asking.api not in WAYS:
        raise RecipeError("--api", f"there is no {asking.api!r}.", f"Choose: {', '.join(WAYS)}.")
    tokenizer = load_tokenizer(run.tokenizer, model)
    certificate = check_run(model, run, tokenizer)
    server = remote(url, asking.key, asking.timeout_seconds)
    name = asking.model or first_model(server)
    probe = _first_probe(certificate).conversation
    way = find_way(server, name, probe, WAYS[asking.api])
    found = _ask_all(server, name, way, certificate)
    expected, notes = _expected(certificate, tokenizer, section, found)
    errors, warnings = _compare(server, name, way, expected, found, tokenizer)
    raise_findings(url, [*errors, *(warnings if asking.strict else [])])
    for finding in warnings:
        warn(str(finding))
    for note in notes:
        say(note)
    asked = [r for r in expected.renderings if not r.refused]
    return VerifyReport(
        url=server.base,
        api=way.name,
        num_probes=len(asked),
        num_equal=sum(found[r.name] == r.prompt_ids for r in asked),
        refused=[f"{r.name}: {found[r.name]}" for r in asked if isinstance(found[r.name], str)],
        notes=notes,
        warnings=[str(finding) for finding in warnings],
    )


def _compare(
    server: Remote,
    name: str | None,
    way: Way,
    certificate: Certificate,
    found: dict[str, list[int] | str],
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[list[Finding], list[Finding]]:
    """What is wrong, and what to warn of, while nothing is wrong."""

    def text_of(token: int) -> str:
        return text_of_token(tokenizer, token)

    if way.text:
        text_ids = _tokens_or(way.text, server, name, certificate.text_ids)
        if findings := compare_text(certificate, text_ids, text_of, _REMEDY):
            return findings, []
    tools = [r for r in certificate.renderings if r.conversation.tools]
    rare = [r for r in certificate.renderings if r.name == RARE_CHARACTERS]
    benign = [r for r in certificate.renderings if r.plain and r not in [*tools, *rare]]
    if errors := compare_prompts(certificate, benign, found, text_of, _REMEDY):
        return errors, []
    unsafe = [r for r in certificate.renderings if not r.plain]
    control = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    warnings = compare_unsafe(certificate, unsafe, found, control, text_of)
    told = {key: ids for key, ids in found.items() if not isinstance(ids, str)}
    for finding in compare_prompts(certificate, rare, told, text_of, _RARE_REMEDY):
        warnings.append(replace(finding, name="rare characters become other tokens"))
    for finding in compare_prompts(certificate, tools, told, text_of, _REMEDY):
        warnings.append(replace(finding, name="tools are written otherwise"))
    return [], warnings


def _tokens_or(
    ask: Callable[[Remote, str | None], list[int]],
    server: Remote,
    name: str | None,
    otherwise: list[int],
) -> list[int]:
    """The ids of plain text; `otherwise` from a server that takes messages only."""
    try:
        return ask(server, name)
    except (NotOffered, Refused):
        return otherwise


def _ask_all(
    server: Remote, name: str | None, way: Way, certificate: Certificate
) -> dict[str, list[int] | str]:
    found: dict[str, list[int] | str] = {}
    for rendering in certificate.renderings:
        if rendering.refused:
            continue
        try:
            found[rendering.name] = way.prompt(server, name, rendering.conversation)
        except (Refused, NotOffered) as error:
            found[rendering.name] = error.problem
    return found


def _expected(
    certificate: Certificate,
    tokenizer: PreTrainedTokenizerBase,
    section: ServeSection,
    found: dict[str, list[int] | str],
) -> tuple[Certificate, list[str]]:
    """The certificate, or one with what a server may change: the system prompt and the date."""
    days = [certificate.day]
    if has_live_date(tokenizer):
        days.append(date.today().isoformat())
    systems = [None, section.system_prompt] if section.system_prompt else [None]
    probe = _first_probe(certificate)
    for day in days:
        dated = on_day(tokenizer, day)
        for system in systems:
            again = render(_with_system(probe.conversation, system), dated)
            if again.refused or again.prompt_ids != found[ONE_QUESTION]:
                continue
            notes = [f"the server adds the recipe's serve.system_prompt: {system!r}"] * bool(system)
            if day != certificate.day:
                notes.append(
                    f"the chat template writes the date; training saw {certificate.day} only"
                )
            if not notes:
                return certificate, []
            renderings = [_again(r, system, dated) for r in certificate.renderings]
            return replace(certificate, renderings=renderings), notes
    return certificate, []


def _first_probe(certificate: Certificate) -> Rendering:
    return next(r for r in certificate.renderings if r.name == ONE_QUESTION)


def _again(
    rendering: Rendering, system: str | None, tokenizer: PreTrainedTokenizerBase
) -> Rendering:
    again = render(_with_system(rendering.conversation, system), tokenizer)
    return replace(again, conversation=rendering.conversation)


def _with_system(conversation: Conversation, system: str | None) -> Conversation:
    if system is None or conversation.messages[0].role == "system":
        return conversation
    messages = (Message("system", system), *conversation.messages)
    return replace(conversation, messages=messages)
