"""What an audit of labels found, in the shape in which it is printed and saved."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """What all parts of the report share: nothing writes to them."""

    model_config = ConfigDict(frozen=True)


class Finding(Part):
    """One kind of fault that was found.

    Attributes:
        name: by which `prepare.allow_findings` lets it pass.
        level: error, warning, or allowed: an error that the recipe lets pass.
        count: how many rows have it; 0 for what is wrong with the model's files.
        what: what is wrong, with the tokens in question.
        remedy: what to do; a line of a recipe where there is one.
        first: where the first such rows come from.
    """

    name: str
    level: str
    count: int
    what: str
    remedy: str
    first: list[str]


class LabelReport(Part):
    """What carries loss in prepared examples, and what is wrong with them.

    Attributes:
        target: what was looked at.
        page: the HTML page that was written, if any.
        num_errors: findings that stop training.
        num_warnings: findings that do not.
        findings: all of them, errors first.
        num_examples: rows, by split.
        num_tokens: tokens of all rows, padding left out.
        num_supervised: tokens that carry loss.
        supervised_share: of all tokens.
        num_without_supervised: rows without any.
        num_answers: runs of tokens that carry loss, which are the assistant's turns.
        num_with_stop_token: how many of them end with one that carries loss.
        num_cut: rows whose end was cut off.
        cut_tokens: percentiles of how much, where the set says so.
        lengths: percentiles of tokens a row.
        supervised_lengths: percentiles of tokens that carry loss.
        advice: which max_length covers 99 % of the rows, as they were before they were cut.
        embedding_checked: whether the model's weights were at hand, for untrained tokens.
        allowed: findings that the recipe lets pass.
        stop_tokens: what ends an answer.
        special_tokens: eos, bos and pad by file.
    """

    target: str
    page: str | None
    num_errors: int
    num_warnings: int
    findings: list[Finding]
    num_examples: dict[str, int]
    num_tokens: int
    num_supervised: int
    supervised_share: float
    num_without_supervised: int
    num_answers: int
    num_with_stop_token: int
    num_cut: int
    cut_tokens: dict[str, int]
    lengths: dict[str, int]
    supervised_lengths: dict[str, int]
    advice: str
    embedding_checked: bool
    allowed: list[str]
    stop_tokens: list[str]
    special_tokens: dict[str, dict[str, list[str]]]

    def for_reader(self) -> dict[str, Any]:
        """The report with a few lines for each finding, by its name, for a terminal."""
        findings = {
            f.name: {
                f.level: f"{f.what} ({f.count:,} rows)" if f.count else f.what,
                "remedy": f.remedy,
            }
            | ({"first": ", ".join(f.first)} if f.first else {})
            for f in self.findings
        }
        return self.model_dump() | {"findings": findings}
