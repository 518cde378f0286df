"""What is wrong, in words, where prompts are not those of the certificate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from burnish.errors import ParityError
from burnish.parity.certificate import Certificate, Rendering
from burnish.parity.differences import TextOf, inserted, show_difference

Found = Mapping[str, list[int] | str]
"""By the name of a probe: the prompt's ids, or why there are none."""

UNSAFE = "user text becomes control tokens"


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference with its name, what was seen, and what to do about it."""

    name: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        """As one line, or more where tokens are shown."""
        return f"{self.name}: {self.problem}\n    {self.remedy}"


@dataclass(frozen=True, slots=True)
class _Case:
    """A probe that came out otherwise."""

    rendering: Rendering
    found: list[int]

    @property
    def expected(self) -> list[int]:
        return self.rendering.prompt_ids

    @property
    def has_system(self) -> bool:
        return self.rendering.conversation.messages[0].role == "system"


Show = Callable[[_Case], str]


def raise_findings(where: str, findings: Sequence[Finding]) -> None:
    """Refuses to go on if there are findings.

    Raises:
        ParityError: names the first with its remedy, and how many others there are.
    """
    if not findings:
        return
    first, *others = findings
    more = f" (and {len(others)} more: {', '.join(f.name for f in others)})" if others else ""
    raise ParityError(where, f"{first.name}: {first.problem}{more}", first.remedy)


def compare_text(
    certificate: Certificate, ids: list[int], text_of: TextOf, remedy: str
) -> list[Finding]:
    """A finding if text without any template becomes other tokens."""
    if ids == certificate.text_ids:
        return []
    shown = show_difference(certificate.text_ids, ids, certificate.text_of, text_of)
    problem = f"plain text, without any template, becomes other tokens: {shown}"
    return [Finding("another tokenizer", problem, remedy)]


def compare_prompts(
    certificate: Certificate,
    renderings: Iterable[Rendering],
    found: Found,
    text_of: TextOf,
    remedy: str,
) -> list[Finding]:
    """Findings where probes became other prompts than the certificate says.

    Each cause that can be told from the ids has its own name; what is left over is called
    `another chat template`.

    Args:
        certificate: the run's.
        renderings: those of its probes that are to be compared.
        found: what they became elsewhere; probes that it lacks are not compared.
        text_of: the text of a token there.
        remedy: what to do about a template that can't be told more exactly.
    """
    asked = [r for r in renderings if not r.refused and r.name in found]
    refused = [r for r in asked if isinstance(found[r.name], str)]
    cases = [
        _Case(r, ids)
        for r in asked
        if not isinstance(ids := found[r.name], str) and ids != r.prompt_ids
    ]
    findings = [
        Finding("refused", f"{r.name!r} is refused: {found[r.name]}", remedy) for r in refused[:1]
    ]
    if not cases:
        return findings
    show = partial(_show, certificate=certificate, text_of=text_of)
    for explain in (_another_start, _another_system, _trimmed):
        finding = explain(cases, [r for r in asked if r not in refused], show, text_of)
        if finding:
            return [finding, *findings]
    return [Finding("another chat template", show(cases[0]), remedy), *findings]


def _show(case: _Case, *, certificate: Certificate, text_of: TextOf) -> str:
    shown = show_difference(case.expected, case.found, certificate.text_of, text_of)
    return f"in the probe {case.rendering.name!r}, {shown}"


def _another_start(
    cases: Sequence[_Case], asked: Sequence[Rendering], show: Show, text_of: TextOf
) -> Finding | None:
    """Every prompt has one token more, or less, at its start."""
    if len(cases) < len(asked):
        return None
    first = cases[0]
    token = first.found[:1]
    if token and all(case.found == [*token, *case.expected] for case in cases):
        name = "a second bos" if token == first.expected[:1] else "a token before the prompt"
        return Finding(
            name,
            show(first),
            "The template writes its bos itself: tell the server or tokenizer to add none "
            "(add_bos_token: false, add_special_tokens: false).",
        )
    token = first.expected[:1]
    if token and all(case.expected == [*token, *case.found] for case in cases):
        return Finding(
            "the first token is missing",
            show(first),
            "Training saw it at the start of every prompt (mostly the bos): let the template "
            "write it, or tell the server to add it.",
        )
    return None


def _another_system(
    cases: Sequence[_Case], asked: Sequence[Rendering], show: Show, text_of: TextOf
) -> Finding | None:
    """Every prompt that brings no system prompt has one and the same block more, or less."""
    without = [case for case in cases if not case.has_system]
    wanted = [r for r in asked if r.conversation.messages[0].role != "system"]
    added = {tuple(inserted(case.expected, case.found)) for case in without}
    lost = {tuple(inserted(case.found, case.expected)) for case in without}
    if len(without) < len(wanted) or len(without) < 2:
        return None
    if len(added) == 1 and len(block := next(iter(added))) > 1:
        text = "".join(map(text_of, block))
        return Finding(
            "a default system prompt",
            f"where a conversation brings none, {text!r} is added; {show(without[0])}",
            "Take it out of the server's settings or its template; or train with it: give each "
            "row that system prompt.",
        )
    if len(lost) == 1 and len(block := next(iter(lost))) > 1:
        text = "".join(map(text_of, block))
        return Finding(
            "no default system prompt",
            f"where a conversation brings none, training saw {text!r}; {show(without[0])}",
            "Use the run's own chat template, which writes it, or send it with each conversation.",
        )
    return None


def _trimmed(
    cases: Sequence[_Case], asked: Sequence[Rendering], show: Show, text_of: TextOf
) -> Finding | None:
    """Only white space at the ends of messages is lost."""
    for case in cases:
        messages = case.rendering.conversation.question
        texts = ("".join(map(text_of, ids)) for ids in (case.expected, case.found))
        is_padded = any(m.content != m.content.strip() for m in messages)
        if not is_padded or len({"".join(text.split()) for text in texts}) > 1:
            return None
    return Finding(
        "white space is trimmed",
        show(cases[0]),
        "Training saw messages as they are: use the template of the run, which does not trim, or "
        "trim the rows and prepare again.",
    )


def compare_unsafe(
    certificate: Certificate,
    renderings: Iterable[Rendering],
    found: Found,
    control: Collection[int],
    text_of: TextOf,
) -> list[Finding]:
    """A finding if control tokens that stand in a message become real ones.

    Args:
        certificate: the run's.
        renderings: probes whose messages hold the names of control tokens.
        found: what they became elsewhere.
        control: the ids of all control tokens.
        text_of: the text of a token there.
    """
    cases = [
        _Case(r, ids)
        for r in renderings
        if not r.refused and isinstance(ids := found.get(r.name), list) and ids != r.prompt_ids
    ]
    unsafe = [c for c in cases if _count(c.found, control) > _count(c.expected, control)]
    if unsafe:
        return [
            Finding(
                UNSAFE,
                _show(unsafe[0], certificate=certificate, text_of=text_of),
                "A user of this server can end a turn or open one. Take such strings out of what "
                "users send before it reaches the server, or serve with burnish serve.",
            )
        ]
    if cases:
        return [
            Finding(
                "names of control tokens are encoded otherwise",
                _show(cases[0], certificate=certificate, text_of=text_of),
                "Nothing is unsafe about it, but training saw other tokens for such strings.",
            )
        ]
    return []


def _count(ids: Iterable[int], control: Collection[int]) -> int:
    return sum(token in control for token in ids)
