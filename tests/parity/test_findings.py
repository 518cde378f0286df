"""Each way in which prompts differ has its name; ids are letters here, so that they can be read."""

from __future__ import annotations

import pytest

from burnish.conversation import Conversation, Message
from burnish.errors import ParityError
from burnish.parity.certificate import Certificate, Rendering
from burnish.parity.findings import (
    Finding,
    compare_prompts,
    compare_text,
    compare_unsafe,
    raise_findings,
)

REMEDY = "Do that."


def ids(text):
    return [ord(letter) for letter in text]


def rendering(name, prompt, *, content="q", system=False, plain=True, refused=""):
    head = [Message("system", "s")] if system else []
    messages = (*head, Message("user", content), Message("assistant", "a"))
    return Rendering(Conversation(messages, name), ids(prompt), refused=refused, plain=plain)


RENDERINGS = [
    rendering("one", "^[U:one][A:"),
    rendering("padded", "^[U: two ][A:", content=" two "),
    rendering("told", "^[S:s][U:x][A:", system=True),
]
CERTIFICATE = Certificate("", None, ids("text"), RENDERINGS, {n: chr(n) for n in range(32, 127)})


def found(**changes):
    return {r.name: ids(changes[r.name]) if r.name in changes else r.prompt_ids for r in RENDERINGS}


def names(prompts, renderings=RENDERINGS):
    return [f.name for f in compare_prompts(CERTIFICATE, renderings, prompts, chr, REMEDY)]


def test_equal_prompts_are_no_finding():
    assert names(found()) == []


def test_a_second_bos_before_every_prompt_is_called_that():
    doubled = {r.name: [ord("^"), *r.prompt_ids] for r in RENDERINGS}
    (finding,) = compare_prompts(CERTIFICATE, RENDERINGS, doubled, chr, REMEDY)
    assert finding.name == "a second bos"
    assert "in the probe 'one', token 2 differs" in finding.problem
    assert "add_bos_token: false" in finding.remedy


def test_another_token_before_every_prompt_is_not_called_a_second_bos():
    assert names({r.name: [ord("!"), *r.prompt_ids] for r in RENDERINGS}) == [
        "a token before the prompt"
    ]


def test_a_bos_that_is_missing_everywhere_is_called_that():
    assert names({r.name: r.prompt_ids[1:] for r in RENDERINGS}) == ["the first token is missing"]


def test_a_block_wherever_no_system_prompt_is_brought_is_a_default_system_prompt():
    added = found(one="^[S:be nice][U:one][A:", padded="^[S:be nice][U: two ][A:")
    (finding,) = compare_prompts(CERTIFICATE, RENDERINGS, added, chr, REMEDY)
    assert finding.name == "a default system prompt"
    assert "'[S:be nice]' is added" in finding.problem


def test_it_is_one_too_where_the_template_takes_no_system_prompt():
    two = [*RENDERINGS[:2], rendering("told", "", system=True, refused="no system")]
    added = found(one="^[S:be nice][U:one][A:", padded="^[S:be nice][U: two ][A:")
    assert names(added, two) == ["a default system prompt"]


def test_a_block_that_training_saw_and_the_server_lacks_is_told_apart():
    shorter = [
        rendering("one", "^[S:be nice][U:one][A:"),
        rendering("padded", "^[S:be nice][U: two ][A:"),
    ]
    assert names(found(), shorter) == ["no default system prompt"]


def test_blocks_that_are_not_the_same_are_another_template():
    added = found(one="^[S:be nice][U:one][A:", padded="^[S:be kind][U: two ][A:")
    assert names(added) == ["another chat template"]


def test_white_space_lost_at_the_ends_of_a_message_is_called_trimmed():
    assert names(found(padded="^[U:two][A:")) == ["white space is trimmed"]


def test_other_words_in_a_padded_message_are_not():
    assert names(found(padded="^[U:too][A:")) == ["another chat template"]


def test_anything_else_is_another_chat_template_and_shows_the_first_probe_that_differs():
    (finding,) = compare_prompts(
        CERTIFICATE, RENDERINGS, found(one="^[u:one][A:", told="^[S:s]x"), chr, REMEDY
    )
    assert finding.name == "another chat template"
    assert "in the probe 'one', token 3 differs" in finding.problem
    assert "then 'U' (id 85) then ':one][" in finding.problem
    assert "then 'u' (id 117) then ':one][" in finding.problem
    assert finding.remedy == REMEDY


def test_a_probe_that_is_refused_here_and_not_in_training_is_a_finding():
    (finding,) = compare_prompts(
        CERTIFICATE, RENDERINGS, {**found(), "told": "no system role"}, chr, REMEDY
    )
    assert (finding.name, finding.problem) == ("refused", "'told' is refused: no system role")


def test_what_training_refused_and_what_was_not_asked_is_not_compared():
    refusing = [rendering("one", "", refused="never")]
    assert names({"one": ids("abc")}, refusing) == []
    assert names({}) == []


def test_plain_text_that_becomes_other_tokens_means_another_tokenizer():
    assert compare_text(CERTIFICATE, ids("text"), chr, REMEDY) == []
    (finding,) = compare_text(CERTIFICATE, ids("tezt"), chr, REMEDY)
    assert finding.name == "another tokenizer"
    assert "token 3 differs" in finding.problem


MARKED = [rendering("marked", "^[U:a<b>c][A:", plain=False)]


def test_user_text_that_becomes_control_tokens_has_its_own_name():
    (finding,) = compare_unsafe(CERTIFICATE, MARKED, {"marked": ids("^[U:a\x07c][A:")}, {7}, chr)
    assert finding.name == "user text becomes control tokens"


def test_names_of_control_tokens_in_other_pieces_are_no_danger():
    (finding,) = compare_unsafe(CERTIFICATE, MARKED, {"marked": ids("^[U:a#c][A:")}, {7}, chr)
    assert finding.name == "names of control tokens are encoded otherwise"
    assert compare_unsafe(CERTIFICATE, MARKED, {"marked": "refused"}, {7}, chr) == []
    same = {"marked": MARKED[0].prompt_ids}
    assert compare_unsafe(CERTIFICATE, MARKED, same, {7}, chr) == []


def test_findings_refuse_to_go_on_the_first_in_full_and_the_others_by_name():
    raise_findings("x", [])
    findings = [Finding("A", "is bad.", "Mend A."), Finding("B", "is bad.", "Mend B.")]
    with pytest.raises(ParityError) as caught:
        raise_findings("model/", findings)
    assert str(caught.value) == "model/: A: is bad. (and 1 more: B)\n  Mend A."
    assert caught.value.exit_code == 2
