"""Chat templates of real models, where an installed package has them, and what is wrong of them.

None of their texts is kept here; they are read from the package, and given a small tokenizer that
has what they write as tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from burnish.conversation import Conversation, Example, Message
from burnish.errors import DataError
from burnish.rendering import render_row
from tests.families.reading import own_text, spans_of
from tests.families.vocabularies import byte_level, with_tokens

_TOKENS = re.compile(r"<[^<>\s{}'\"%\\]{1,40}>|\[/?[A-Z_]{2,30}\]|\[\|\w+\|\]|\[e~\[|\]~!?b[\[\]]")
_NOT_SPECIAL = re.compile("think|tool|function|param|arg|invoke|name|calls?>|reason|answer")
_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<end_of_turn>",
    "<|end|>",
    "<｜end▁of▁sentence｜>",
    "<|END_OF_TURN_TOKEN|>",
    "<|return|>",
)
_SPEAKERS = ("system", "user", "assistant", "observation", "tool")


def found_in(package: str, folder: str) -> Iterator[Path]:
    """The chat templates of an installed package, without importing it."""
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or []) if spec else []:
        yield from sorted(Path(place, folder).glob("*.jinja"))


def tokenizer_for(template: str):
    """A small tokenizer that has what a template writes as control tokens."""
    tokens = {"<s>", "</s>", *_TOKENS.findall(template)}
    if re.search(r"<\|['\"{ ]", template):  # it puts the role between bars
        tokens |= {f"<|{role}|>" for role in _SPEAKERS}
    plain = sorted(token for token in tokens if _NOT_SPECIAL.search(token))
    eos = next((token for token in _ENDS if token in tokens), "</s>")
    special = sorted(tokens - {*plain})
    backend = byte_level(keeps_lines=True)
    tokenizer = with_tokens(backend, special, plain, bos="<s>", eos=eos)
    tokenizer.chat_template = template
    return tokenizer


def what_is_wrong(conversation: Conversation, tokenizer, *, smuggles: bool = False) -> str | None:
    """What the examples of a row have that they should not, or None.

    The whole must be what transformers makes of it, each answer must be asked for as transformers
    would, and be learned with its end and with nothing else. Where transformers alone writes
    another text than its own prompt begins, only the whole is not compared. Where the conversation
    smuggles control tokens, transformers' ids can't be had, and the text is compared alone.

    Raises:
        DataError: the conversation is refused.
    """
    parts = render_row(conversation, tokenizer, 10**6)
    for _, found in parts:
        if isinstance(found, DataError):
            raise found
    if [m for m in conversation.messages if m.role == "assistant" and m.train] != [
        m for part, _ in parts for m in part.messages if m.role == "assistant" and m.train
    ]:
        return "not every answer is learned once"
    wrong = (_wrong_of(part, found, tokenizer, smuggles=smuggles) for part, found in parts)
    return next((each for each in wrong if each is not None), None)


def _wrong_of(
    conversation: Conversation, example: Example, tokenizer, *, smuggles: bool
) -> str | None:
    ids, whole = example.input_ids, own_text(conversation, tokenizer)
    is_own = whole.startswith(tokenizer.decode(ids))
    question = replace(conversation, messages=conversation.question)
    prompt = own_text(question, tokenizer, add_generation_prompt=True)
    if not is_own and whole.startswith(prompt) and "</think>" not in conversation.answer:
        return "its text is another"
    learned = [i for i, m in enumerate(conversation.messages) if m.role == "assistant" and m.train]
    spans = spans_of(example.labels)
    if len(spans) != len(learned):
        return f"of {len(learned)} answers {len(spans)} carry loss"
    for index, (start, stop) in zip(learned, spans, strict=True):
        asked = replace(conversation, messages=conversation.messages[:index])
        prompt = own_text(asked, tokenizer, add_generation_prompt=True)
        if not smuggles and ids[:start] != _ids(prompt, tokenizer):
            return "an answer is asked for otherwise"
        said = tokenizer.decode(ids[start:stop])
        if wrong := _wrong_in(said, index, conversation, tokenizer):
            return wrong
    if not is_own:
        return _strange_in(said, conversation.messages[learned[-1]], tokenizer)
    start = spans[-1][0]
    equal = ids == _ids(whole, tokenizer)[: len(ids)]
    apart = ids == [*ids[:start], *_ids(whole[len(prompt) :], tokenizer)][: len(ids)]
    merges = _ids(whole, tokenizer)[:start] != ids[:start]
    return None if smuggles or equal or (merges and apart) else "its ids are others"


def _wrong_in(said: str, index: int, conversation: Conversation, tokenizer) -> str | None:
    """What an answer that is learned has beside its opening, its words, its calls and its end.

    The opening is what a template leaves to the model: reasoning, or the name of a channel.
    """
    message = conversation.messages[index]
    if message.tool_calls:
        return None if "罗马" in said else f"its call is not in {said!r}"
    words = re.escape(message.content.rpartition("</think>")[2].strip())
    names = (re.escape(str(token)) for token in tokenizer.added_tokens_decoder.values())
    end = rf"\s*(?:(?:{'|'.join(names)})\s*){{0,2}}"
    found = re.fullmatch(rf"(?P<opening>.*){words}{end}", said, re.DOTALL)
    others = [m.content.strip() for m in conversation.messages if m is not message]
    strange = found and any(len(o) > 6 and o in found["opening"] for o in others)
    return f"{said!r} is learned" if strange or not found else None


def _strange_in(said: str, message: Message, tokenizer) -> str | None:
    """What is learned beside an answer's own reasoning and words, control tokens and blanks."""
    if message.tool_calls:
        return None
    own = [message.reasoning_content, *re.split("</?think>", message.content)]
    rest = said
    names = map(str, tokenizer.added_tokens_decoder.values())
    for part in (*own, "<think>", "</think>", *names):
        rest = rest.replace(part.strip(), "") if part.strip() else rest
    return f"{rest!r} is learned in {said!r}" if rest.strip() else None


def _ids(text: str, tokenizer) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]
