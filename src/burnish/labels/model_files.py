"""MODEL_FINDINGS: where a model's own files disagree about eos, bos or pad, or hold a date."""

from __future__ import annotations

from collections.abc import Callable

from burnish.labels.vocabulary import Vocabulary


def _eos_disagrees(known: Vocabulary) -> str | None:
    """The tokenizer's eos is none of those at which servers stop by the model's own files."""
    own = known.special["tokenizer"]["eos"]
    for file in ("generation_config", "config"):
        told = known.special[file]["eos"]
        if own and told:
            return None if own[0] in told else _disagreeing(known, file, "eos")
    return None


def _bos_disagrees(known: Vocabulary) -> str | None:
    return _other(known, "bos")


def _pad_disagrees(known: Vocabulary) -> str | None:
    """A pad that equals eos may be burnish's own stopgap, and says nothing."""
    return None if known.only("pad") == known.only("eos") else _other(known, "pad")


def _other(known: Vocabulary, kind: str) -> str | None:
    own = known.special["tokenizer"][kind]
    for file in ("generation_config", "config"):
        told = known.special[file][kind]
        if own and told and own[0] not in told:
            return _disagreeing(known, file, kind)
    return None


def _fixed_date(known: Vocabulary) -> str | None:
    """Rows that were prepared by burnish: consistent, but the model sees one day only."""
    if known.day is None:
        return None
    return (
        f"the chat template writes today's date; here it always writes {known.day}, in training "
        "and serving alike"
    )


def _live_date(known: Vocabulary) -> str | None:
    if not known.has_live_date:
        return None
    return (
        "the chat template writes today's date, so these rows hold that of one day, and servers "
        "another every day"
    )


def _disagreeing(known: Vocabulary, file: str, kind: str) -> str:
    own, told = known.special["tokenizer"][kind], known.special[file][kind]
    others = ", ".join(f"{known.name_of(token)!r} ({token})" for token in told)
    return (
        f"{kind} is {known.name_of(own[0])!r} ({own[0]}) to the tokenizer and {others} in "
        f"{file}.json"
    )


MODEL_FINDINGS: dict[str, Callable[[Vocabulary], str | None]] = {
    "eos_disagrees": _eos_disagrees,
    "bos_disagrees": _bos_disagrees,
    "pad_disagrees": _pad_disagrees,
    "fixed_date": _fixed_date,
    "live_date": _live_date,
}
"""What can be wrong with a model's own files; each says what, or None."""

MODEL_REMEDIES = {
    "eos_disagrees": "Servers stop by generation_config.json: add the tokenizer's eos to "
    "eos_token_id there and in config.json.",
    "bos_disagrees": "Set bos_token_id in config.json and generation_config.json to the "
    "tokenizer's.",
    "pad_disagrees": "Set pad_token_id in config.json and generation_config.json to the "
    "tokenizer's.",
    "fixed_date": "Choose the day with model.template_date, or take the date out of the template.",
    "live_date": "Let the template write one day, as burnish prepare does.",
}
