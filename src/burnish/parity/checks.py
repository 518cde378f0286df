"""Checks of a run's own artifacts against its certificate: tokenizers, model folders, rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.conversation import Conversation
from burnish.errors import ParityError, first_line
from burnish.parity.certificate import (
    WHOLE,
    Certificate,
    encode_text,
    on_day,
    read_certificate,
    render,
    render_plainly,
    template_hash,
    text_of_token,
)
from burnish.parity.differences import show_difference
from burnish.parity.findings import Finding, compare_prompts, compare_text, raise_findings
from burnish.recipe import ModelSection
from burnish.rendering import check_own_templates, load_tokenizer, render_example
from burnish.run_dir import RunDir

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NUM_ROWS = 8
"""Prepared rows that are rendered again."""

_PREPARE = "Put the file back as it was, or begin anew with it: burnish prepare RECIPE --force"


def check_run(
    model: ModelSection, run: RunDir, tokenizer: PreTrainedTokenizerBase | None = None
) -> Certificate:
    """Checks the tokenizer that a run saved; returns the run's certificate.

    Raises:
        RunError: the run has no certificate.
        ParityError: the tokenizer or its chat template was changed since prepare.
    """
    certificate = read_certificate(run)
    own = tokenizer or load_tokenizer(run.tokenizer, model)
    check_tokenizer(certificate, own, str(run.tokenizer))
    return certificate


def check_base(certificate: Certificate, model: ModelSection, folder: Path) -> None:
    """Checks the tokenizer that lies with the base model, which other servers would use.

    Raises:
        ParityError: it was changed since prepare.
    """
    base = on_day(load_tokenizer(folder, model), certificate.day)
    check_tokenizer(certificate, base, str(folder))


def check_tokenizer(
    certificate: Certificate, tokenizer: PreTrainedTokenizerBase, where: str
) -> None:
    """Renders all probes again, with their labels.

    Raises:
        ParityError: ids or labels differ, or the chat template does; names the first token.
    """
    findings = _compare_tokenizer(certificate, tokenizer)
    if not findings and template_hash(tokenizer) != certificate.chat_template:
        problem = "its text was changed, although the probes come out as before."
        findings = [Finding("another chat template", problem, _PREPARE)]
    raise_findings(where, findings)


def _compare_tokenizer(
    certificate: Certificate, tokenizer: PreTrainedTokenizerBase
) -> list[Finding]:
    def text_of(token: int) -> str:
        return text_of_token(tokenizer, token)

    findings = compare_text(certificate, encode_text(tokenizer), text_of, _PREPARE)
    if findings:
        return findings
    dated = on_day(tokenizer, certificate.day)
    again = {r.name: render(r.conversation, dated) for r in certificate.renderings}
    prompts = {name: r.refused or r.prompt_ids for name, r in again.items()}
    findings = compare_prompts(certificate, certificate.renderings, prompts, text_of, _PREPARE)
    if findings:
        return findings
    for rendering in certificate.renderings:
        now = again[rendering.name]
        if now.input_ids != rendering.input_ids:
            shown = show_difference(
                rendering.input_ids, now.input_ids, certificate.text_of, text_of
            )
            problem = f"in the whole conversation of the probe {rendering.name!r}, {shown}"
            return [Finding("another chat template", problem, _PREPARE)]
        if now.labels != rendering.labels:
            problem = f"the probe {rendering.name!r} has labels on other tokens than it had."
            return [Finding("other labels", problem, _PREPARE)]
    return []


def check_folder(certificate: Certificate, model: ModelSection, folder: Path) -> None:
    """Checks a saved model's tokenizer and template as transformers alone renders them.

    Raises:
        ParityError: a probe becomes another prompt, or there is no chat template.
        ModelError: its chat template takes too much time or memory.
    """
    from transformers import AutoTokenizer

    remedy = "Put its tokenizer files back as they were, or write the model again."
    try:
        own = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        problem = f"its tokenizer can't be loaded: {first_line(error)}"
        raise ParityError(str(folder), problem, remedy) from None
    if template_hash(own) != certificate.chat_template:
        check_own_templates(own, folder)
    dated = on_day(own, certificate.day)
    plain = [r for r in certificate.renderings if r.plain]
    prompts = {r.name: render_plainly(r.conversation, dated) for r in plain}

    def text_of(token: int) -> str:
        return text_of_token(own, token)

    findings = compare_text(certificate, encode_text(own), text_of, remedy)
    findings = findings or compare_prompts(certificate, plain, prompts, text_of, remedy)
    if not findings and template_hash(own) != certificate.chat_template:
        problem = "its text was changed, although the probes come out as before."
        findings = [Finding("another chat template", problem, remedy)]
    raise_findings(str(folder), findings)


def check_rows(
    certificate: Certificate,
    rows: Iterable[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    where: str,
) -> None:
    """Renders prepared rows again from the conversations stored with them.

    Args:
        certificate: the run's.
        rows: rows of a prepared split, of which the first are looked at.
        tokenizer: the run's.
        where: the split, for the error.

    Raises:
        ParityError: a row holds other ids or labels than its conversation renders to.
    """
    dated = on_day(tokenizer, certificate.day)
    for _, row in zip(range(NUM_ROWS), rows, strict=False):
        conversation = Conversation.from_json(row["conversation"])
        example = render_example(conversation, dated, WHOLE)
        ids, labels = list(row["input_ids"]), list(row["labels"])
        again = example.input_ids[: len(ids)]
        if again == ids and example.labels[: len(labels)] == labels:
            continue

        def text_of(token: int) -> str:
            return text_of_token(tokenizer, token)

        seen = "its labels lie on other tokens" if again == ids else None
        shown = seen or show_difference(ids, again, text_of, text_of)
        raise ParityError(
            f"{where}, {conversation.origin}",
            f"this prepared row is not what its conversation renders to: {shown}",
            "Run it again with: burnish prepare RECIPE --force",
        )
