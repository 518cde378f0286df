"""The evaluate stage: base and adapter on held-out examples, prompts and benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from burnish.conversation import Conversation, Message
from burnish.errors import DataError
from burnish.evaluation.answers import Question, answer_all, write_answers
from burnish.evaluation.benchmarks import Scores, run_benchmarks
from burnish.models.loading import load_base, load_tuned, pick_dtype, set_threads
from burnish.models.names import find_model
from burnish.parity.checks import check_base, check_rows, check_run
from burnish.progress import say, warn
from burnish.recipe import EvaluateSection, ModelSection
from burnish.rendering import load_tokenizer
from burnish.run_dir import RunDir, write_json
from burnish.scoring import score

if TYPE_CHECKING:
    from pathlib import Path


class EvaluateReport(BaseModel):
    """Losses in nats per supervised token; benchmarks as task -> base / adapter -> metric."""

    model_config = ConfigDict(frozen=True)

    base: dict[str, float]
    adapter: dict[str, float]
    benchmarks: dict[str, dict[str, dict[str, float]]]
    answers: str
    num_answers: int


def evaluate(model: ModelSection, section: EvaluateSection, run: RunDir) -> EvaluateReport:
    """Measures base and adapter alike: the base is loaded once, measured, and given its adapter.

    Raises:
        DataError: there are no held-out examples.
        BenchmarkError: a benchmark could not be run.
    """
    set_threads()
    tokenizer = load_tokenizer(run.tokenizer, model)
    folder = find_model(model)
    rows, names = _held_out(section, run)
    certificate = check_run(model, run, tokenizer)
    check_base(certificate, model, folder)
    check_rows(certificate, rows, tokenizer, section.split)
    questions = _questions(section, rows)
    # Not by switching an adapter off: its trained biases (lora.bias) would stay in the base.
    untuned = load_base(folder, model, dtype=pick_dtype())
    base = _losses(untuned, names, section, run, "score base")
    base_answers = _answers(untuned, tokenizer, questions, section, "answer (base)")
    tuned = load_tuned(untuned, run)
    adapter = _losses(tuned, names, section, run, "score adapter")
    adapter_answers = _answers(tuned, tokenizer, questions, section, "answer (adapter)")
    del untuned, tuned
    report = EvaluateReport(
        base=base,
        adapter=adapter,
        benchmarks=_benchmarks(model, section, folder, run),
        answers=str(run.folder("evaluate") / "answers.csv"),
        num_answers=len(questions),
    )
    with run.fresh("evaluate") as out:
        write_answers(out / "answers.csv", questions, base_answers, adapter_answers)
        write_json(out / "scores.json", report.model_dump(exclude={"answers"}))
    for name, value in adapter.items():
        say(f"{name}: base {base[name]:.4f}, adapter {value:.4f}")
    return report


def _held_out(section: EvaluateSection, run: RunDir) -> tuple[Any, list[str]]:
    """The rows to answer, and the splits to score: the recipe's and validation."""
    from datasets import load_from_disk

    wanted = load_from_disk(str(run.split(section.split)))
    names: list[str] = list(dict.fromkeys(["validation", section.split]))
    filled = [name for name in names if len(load_from_disk(str(run.split(name))))]
    if not filled:
        raise DataError(
            "2-prepare",
            "no conversation was held out, so there is nothing to measure on.",
            "Raise prepare.validation_size or prepare.test_size.",
        )
    if not len(wanted):
        warn(f"the {section.split} split is empty; validation is used")
        wanted = load_from_disk(str(run.split("validation")))
    return wanted, filled


def _questions(section: EvaluateSection, rows: Any) -> list[Question]:
    questions = [
        Question((Message("user", prompt),), f"evaluate.prompts[{index}]")
        for index, prompt in enumerate(section.prompts)
    ]
    for row in rows:
        if len(questions) == len(section.prompts) + section.num_answers:
            break
        conversation = Conversation.from_json(row["conversation"])
        if conversation.question:  # a passage of plain text asks nothing
            questions.append(Question.of(conversation))
    return questions


def _losses(
    model: Any, names: list[str], section: EvaluateSection, run: RunDir, what: str
) -> dict[str, float]:
    from datasets import load_from_disk

    metrics: dict[str, float] = {}
    for name in names:
        rows = load_from_disk(str(run.split(name)))
        examples = list(zip(rows["input_ids"], rows["labels"], strict=True))
        result = score(
            model,
            examples,
            batch_size=section.per_device_eval_batch_size,
            what=f"{what} on {name}",
        )
        metrics[f"{name}/loss"] = result.loss
        metrics[f"{name}/perplexity"] = result.perplexity
        metrics[f"{name}/num_tokens"] = result.num_tokens
    return metrics


def _answers(
    model: Any, tokenizer: Any, questions: list[Question], section: EvaluateSection, what: str
) -> list[str]:
    return answer_all(model, tokenizer, questions, max_new_tokens=section.max_new_tokens, what=what)


def _benchmarks(
    model: ModelSection, section: EvaluateSection, folder: Path, run: RunDir
) -> dict[str, dict[str, dict[str, float]]]:
    if not section.tasks:
        return {}
    base: Scores = run_benchmarks(model, section, folder, None)
    if run.trained == run.trained_model:
        adapter: Scores = run_benchmarks(model, section, run.trained_model, None)
    else:
        adapter = run_benchmarks(model, section, folder, run.adapter)
    return {task: {"base": base[task], "adapter": adapter[task]} for task in base}
