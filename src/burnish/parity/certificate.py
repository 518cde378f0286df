"""The certificate of a run: its probe conversations as token ids and labels, and their hash.

`prepare` writes it. A later artifact renders the same conversations, and has to come to the same
ids. So the certificate holds the conversations too, and the texts of its tokens: it can be read
and compared where the tokenizer that made it is gone.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from burnish.conversation import Conversation, Example
from burnish.errors import DataError, RunError
from burnish.parity.probes import PLAIN_TEXT, probes
from burnish.rendering import day_of, pin_date, render_example, render_prompt
from burnish.run_dir import RunDir, digest, write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 2
"""Counts up when probes, fields or rendering change: an old file is told from a broken one."""

WHOLE = 10**9
"""A max_length that cuts nothing."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """What became of one probe.

    Attributes:
        conversation: the probe; its origin is its name.
        prompt_ids: what the model is given to answer.
        input_ids: the whole conversation, answers included.
        labels: as an example has them.
        refused: why the chat template can't write this conversation; the ids are empty then.
        plain: whether transformers alone, without burnish, renders the same prompt. It does not
            where a message holds control tokens.
    """

    conversation: Conversation
    prompt_ids: list[int] = field(default_factory=list)
    input_ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    refused: str = ""
    plain: bool = False

    @property
    def name(self) -> str:
        """The name of the probe."""
        return self.conversation.origin


@dataclass(frozen=True, slots=True)
class Certificate:
    """How a run renders the probes.

    Attributes:
        chat_template: the sha256 of the template.
        day: the day on which a template that writes the date was rendered (ISO 8601); else None.
        text_ids: the ids of PLAIN_TEXT.
        renderings: one a probe.
        tokens: the text of each token that occurs.
    """

    chat_template: str
    day: str | None
    text_ids: list[int]
    renderings: list[Rendering]
    tokens: dict[int, str]

    def text_of(self, token: int) -> str:
        """The text of a token, as the tokenizer of the certificate wrote it."""
        return self.tokens.get(token, f"<{token}>")


def certify(tokenizer: PreTrainedTokenizerBase, *, today: date | None = None) -> Certificate:
    """Renders all probes with a tokenizer and its chat template."""
    dated = on_day(tokenizer, (today or date.today()).isoformat())
    day = day_of(dated)
    renderings = [render(probe, dated) for probe in probes(_control_tokens(tokenizer))]
    text_ids = encode_text(tokenizer)
    used = {token for r in renderings for token in [*r.prompt_ids, *r.input_ids]} | {*text_ids}
    return Certificate(
        template_hash(tokenizer),
        day,
        text_ids,
        renderings,
        {token: text_of_token(tokenizer, token) for token in sorted(used)},
    )


def render(probe: Conversation, tokenizer: PreTrainedTokenizerBase) -> Rendering:
    """What burnish makes of a probe with this tokenizer."""
    try:
        prompt = render_prompt(probe.question, tokenizer, tools=probe.tools)
        example = _render_whole(probe, tokenizer)
    except DataError as error:
        return Rendering(probe, refused=error.problem)
    plain = render_plainly(probe, tokenizer) == prompt
    return Rendering(probe, prompt, example.input_ids, example.labels, plain=plain)


def _render_whole(probe: Conversation, tokenizer: PreTrainedTokenizerBase) -> Example:
    """The probe with all its answers learned, or the last one where the others can't be proved."""
    try:
        return render_example(probe, tokenizer, WHOLE)
    except DataError:
        return render_example(probe.trained_on("last"), tokenizer, WHOLE)


def render_plainly(probe: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[int] | str:
    """The prompt's ids as transformers alone makes them, or why it does not."""
    try:
        ids = tokenizer.apply_chat_template(
            [message.as_dict() for message in probe.question],
            tools=list(probe.tools) or None,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )
    except (TemplateError, TypeError, ValueError) as error:
        return str(error)
    return list(ids)


def encode_text(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of PLAIN_TEXT, without a template."""
    return list(tokenizer(PLAIN_TEXT, add_special_tokens=False)["input_ids"])


def template_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """The sha256 of a tokenizer's chat template."""
    return hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest()


def text_of_token(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """The text of a token; its name where it is only a part of a character."""
    if not 0 <= token < 2**31:  # a stranger's server may say anything
        return f"<{token}>"
    text = str(tokenizer.decode([token]))
    if "\ufffd" not in text and text:
        return text
    return str(tokenizer.convert_ids_to_tokens(token) or f"<{token}>")


def on_day(tokenizer: PreTrainedTokenizerBase, day: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer, with a template that takes `day` (ISO 8601) for today; None changes nothing.

    Else what was rendered on one day could not be compared on the next.
    """
    if day is None:
        return tokenizer
    dated = copy.copy(tokenizer)
    return dated if pin_date(dated, date.fromisoformat(day)) else tokenizer


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """A few of a tokenizer's special tokens, its own end-of-turn and end-of-text tokens first."""
    own = [str(token.content) for _, token in sorted(tokenizer.added_tokens_decoder.items())]
    return list(dict.fromkeys([*map(str, tokenizer.all_special_tokens), *own]))[:12]


def write_certificate(certificate: Certificate, path: Path) -> None:
    """Writes a certificate as JSON, a probe a line."""
    head: dict[str, Any] = {"format": FORMAT, **asdict(certificate)}
    head["renderings"] = [_as_json(r) for r in certificate.renderings]
    head["tokens"] = {str(token): text for token, text in certificate.tokens.items()}
    head["sha256"] = digest(head)
    lines = [
        f"{json.dumps(key)}: {_lines(value) if key == 'renderings' else _compact(value)}"
        for key, value in head.items()
    ]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _as_json(rendering: Rendering) -> dict[str, Any]:
    fields = ("prompt_ids", "input_ids", "labels", "refused", "plain")
    conversation = rendering.conversation.as_dict()
    return {"probe": conversation, **{name: getattr(rendering, name) for name in fields}}


def _lines(rows: list[Any]) -> str:
    return "[\n" + ",\n".join(map(_compact, rows)) + "\n]"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read_certificate(run: RunDir) -> Certificate:
    """The certificate that prepare wrote for this run.

    Raises:
        RunError: there is none, or it is not what prepare wrote.
    """
    remedy = "Run it again with: burnish prepare RECIPE --force"
    try:
        text = run.prompts.read_text(encoding="utf-8")
    except FileNotFoundError:
        problem = "prepare wrote no certificate of its prompts here: an older burnish made it."
        raise RunError(str(run.prompts), problem, remedy) from None
    try:
        head = json.loads(text)
        stated = head.pop("sha256")
        version = head.pop("format")
        whole = digest({"format": version, **head}) == stated
    except (ValueError, KeyError, AttributeError, TypeError):
        whole, version = False, FORMAT
    if version != FORMAT:
        problem = "this certificate was written by another version of burnish."
        raise RunError(str(run.prompts), problem, remedy)
    if not whole:
        problem = "this is not the certificate that prepare wrote: its hash is another."
        raise RunError(str(run.prompts), problem, remedy)
    head["renderings"] = [
        Rendering(Conversation.from_dict(row.pop("probe")), **row) for row in head["renderings"]
    ]
    head["tokens"] = {int(token): text for token, text in head["tokens"].items()}
    return Certificate(**head)
