"""The trainer: its loss against a plain loop, and the private methods that it replaces."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Trainer

from burnish.errors import TrainingError
from burnish.recipe import LoraSettings, TrainSection
from burnish.training.accumulation import Accumulation, Packing
from burnish.training.adapter import add_adapter
from burnish.training.arguments import training_arguments
from burnish.training.backends import choose_backend
from burnish.training.health import Health
from burnish.training.journal import HEALTH_NAME, read_lines
from burnish.training.loss import PLAIN, LossTerms
from burnish.training.steps import StepBatches
from burnish.training.trainer import BurnishTrainer
from tests.conftest import tiny_llama


def rows(count=8):
    """Rows of different lengths with different numbers of supervised tokens."""
    generator = torch.Generator().manual_seed(1)
    out = []
    for index in range(count):
        length = 4 + index * 3 % 11
        ids = torch.randint(3, 32, (length,), generator=generator).tolist()
        prompt = 1 + index % 3
        out.append((ids, [-100] * prompt + ids[prompt:]))
    return out


def adapted():
    torch.manual_seed(0)
    model = add_adapter(tiny_llama(32), LoraSettings(r=2))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # so that A's gradients are not zero either
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def trainer_for(tmp_path, model, examples, validation=(), terms=PLAIN, **settings):
    section = TrainSection(
        **{
            "num_train_epochs": 1,
            "eval_strategy": "no",
            "save_strategy": "no",
            "load_best_model_at_end": False,
            "max_grad_norm": 0,
            "optim": "adamw_torch",
            **settings,
        }
    )
    backend = choose_backend(model, examples, wanted=section.backend, terms=terms)
    return BurnishTrainer(
        model=model,
        args=training_arguments(section, tmp_path, has_validation=bool(validation)),
        train_dataset=[
            {"input_ids": i, "labels": labels, "origin": f"rows.json:{number}"}
            for number, (i, labels) in enumerate(examples, start=1)
        ],
        health=Health(tmp_path / HEALTH_NAME, section.bad_steps),
        eval_dataset=examples if validation else None,
        validation=validation,
        keep=2,
        accumulation=Accumulation(
            backend,
            Packing(section.row_length, section.packing, section.share_prefixes),
            [p for p in model.parameters() if p.requires_grad],
            torch.device("cpu"),
        ),
        steps=StepBatches(
            [len(ids) for ids, _ in examples],
            records=section.per_device_train_batch_size * section.gradient_accumulation_steps,
            tokens=section.tokens_per_step,
            seed=section.seed,
        ),
    )


class Gradients:
    """Keeps the gradients that reach the optimizer."""

    def __init__(self, trainer):
        from transformers import TrainerCallback

        self.seen = []
        outer = self

        class Catch(TrainerCallback):
            def on_pre_optimizer_step(self, args, state, control, model=None, **_):
                named = model.named_parameters()
                outer.seen.append({n: p.grad.clone() for n, p in named if p.grad is not None})

        trainer.add_callback(Catch())


def gradients(tmp_path, size, steps, **settings):
    """The gradient and the loss of one step of all rows."""
    trainer = trainer_for(
        tmp_path,
        adapted(),
        rows(),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=steps,
        **settings,
    )
    caught = Gradients(trainer)
    output = trainer.train()
    (seen,) = caught.seen
    return seen, output.training_loss


def plain_loop(label_smoothing=0.0):
    """Loss and gradients of all rows one by one: the sum of losses over the sum of tokens."""
    model = adapted()
    total, count = torch.zeros(()), 0
    for ids, labels in rows():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(
            logits,
            torch.tensor(labels[1:]),
            ignore_index=-100,
            reduction="sum",
            label_smoothing=label_smoothing,
        )
        count += sum(label != -100 for label in labels[1:])
    loss = total / count
    loss.backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, float(
        loss.detach()
    )


@pytest.mark.parametrize("size, steps", [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_the_gradient_is_that_of_the_mean_over_all_supervised_tokens(tmp_path, size, steps):
    expected, expected_loss = plain_loop()
    found, loss = gradients(tmp_path, size, steps)
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"backend": "transformers"},
        {"packing": False},
        {"row_length": 16},
        {"row_length": 16, "backend": "transformers"},
        {"share_prefixes": False},
    ],
    ids=str,
)
def test_backend_and_packing_change_neither_loss_nor_gradient(tmp_path, settings):
    expected, expected_loss = plain_loop()
    found, loss = gradients(tmp_path, 8, 1, **settings)
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", ["fast", "transformers"])
@pytest.mark.parametrize("size, row_length", [(1, 8), (3, 30), (8, 1024)])
def test_the_validation_loss_does_not_depend_on_the_batch_size(tmp_path, size, row_length, backend):
    _, expected = plain_loop()
    trainer = trainer_for(
        tmp_path,
        adapted(),
        rows(),
        rows(),
        per_device_eval_batch_size=size,
        row_length=row_length,
        backend=backend,
        eval_strategy="epoch",
    )
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-6)


def seen_batches(trainer):
    """The records of every step, as training takes them."""
    seen = []
    original = trainer._accumulation.backward

    def watching(records, **rest):
        seen.append(sorted(tuple(ids) for ids, _ in records))
        return original(records, **rest)

    trainer._accumulation.backward = watching
    trainer.train()
    return seen


def test_every_epoch_takes_all_records_once_in_an_order_of_its_own(tmp_path):
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 3}
    trainer = trainer_for(tmp_path, adapted(), rows(), gradient_accumulation_steps=1, **settings)
    seen = seen_batches(trainer)
    assert [len(batch) for batch in seen] == [3, 3, 2, 3, 3, 2]
    everything = sorted(tuple(ids) for ids, _ in rows())
    for epoch in (seen[:3], seen[3:]):
        assert sorted(ids for batch in epoch for ids in batch) == everything
    assert seen[:3] != seen[3:]
    again = trainer_for(tmp_path, adapted(), rows(), gradient_accumulation_steps=1, **settings)
    assert seen_batches(again) == seen


def test_a_step_counted_in_tokens_takes_about_so_many(tmp_path):
    trainer = trainer_for(tmp_path, adapted(), rows(), tokens_per_step=30, num_train_epochs=2)
    seen = seen_batches(trainer)
    total = sum(len(ids) for ids, _ in rows())
    assert len(seen) == 2 * -(-total // 30) == trainer.state.global_step
    longest = max(len(ids) for ids, _ in rows())
    share = total / (len(seen) / 2)
    assert all(abs(sum(map(len, batch)) - share) < longest for batch in seen)


def after_training(tmp_path, *, fails_at=None):
    """The adapter after 24 steps; the row of a step at which memory ran out, if it shall."""
    settings = {"num_train_epochs": 6, "per_device_train_batch_size": 2, "learning_rate": 2e-3}
    model = adapted()
    trainer = trainer_for(tmp_path, model, rows(), gradient_accumulation_steps=1, **settings)
    own, failed = trainer._accumulation._backend, []

    def loss_sum(row):
        if trainer.state.global_step == fails_at and not failed:
            failed.append(len(row))
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return own.loss_sum(row)

    trainer._accumulation._backend = dataclasses.replace(own, loss_sum=loss_sum)
    trainer.train()
    assert trainer.state.global_step == 24
    weights = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    return torch.cat([w.flatten() for w in weights]), failed


@pytest.mark.slow
def test_memory_that_runs_out_at_any_of_twenty_steps_changes_no_more_than_rounding(tmp_path):
    expected, _ = after_training(tmp_path / "whole")
    for step in random.Random(0).sample(range(24), 20):
        found, failed = after_training(tmp_path / str(step), fails_at=step)
        assert len(failed) == 1
        assert float((found - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("backend", ["fast", "transformers"])
def test_smoothing_is_in_the_loss_once(tmp_path, backend):
    _, expected = plain_loop(label_smoothing=0.5)
    assert expected != pytest.approx(plain_loop()[1], abs=1e-4)
    terms = LossTerms(label_smoothing=0.5)
    trainer = trainer_for(tmp_path, adapted(), rows(), terms=terms, backend=backend)
    assert trainer.train().training_loss == pytest.approx(expected, abs=1e-6)


def test_counters_count_tokens_and_the_mean_loss(tmp_path):
    trainer = trainer_for(tmp_path, adapted(), rows(), gradient_accumulation_steps=1)
    output = trainer.train()
    assert trainer.counters.tokens == sum(len(ids) for ids, _ in rows())
    supervised = sum(label != -100 for _, labels in rows() for label in labels[1:])
    assert trainer.counters.supervised_tokens == supervised
    assert trainer.counters.loss / 2 == pytest.approx(output.training_loss)


def test_a_loss_that_is_not_a_number_stops_the_run_before_the_update(tmp_path):
    model = adapted()
    trainer = trainer_for(tmp_path, model, rows())
    before = {n: p.clone() for n, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        model.get_base_model().model.norm.weight[0] = float("nan")
    with pytest.raises(TrainingError, match="step 1: the loss is nan; nothing was updated"):
        trainer.train()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter, before[name])


def test_a_gradient_that_is_not_finite_in_a_later_step_stops_the_run_before_the_update(tmp_path):
    model = adapted()
    trainer = trainer_for(
        tmp_path, model, rows(), per_device_train_batch_size=2, gradient_accumulation_steps=1
    )
    weight = next(p for n, p in model.named_parameters() if "lora_B" in n)
    weight.register_hook(lambda g: g * float("inf") if trainer.state.global_step == 2 else g)
    with pytest.raises(TrainingError, match="step 3: the gradient is not finite"):
        trainer.train()
    assert all(torch.isfinite(p).all() for p in model.parameters())


BAD = 31
"""A token whose embedding is not finite, so that its row alone is not finite."""


def spoilt(tmp_path, bad_rows, **settings):
    """A trainer of eight rows, two a step, of which some hold the bad token; the head is whole."""
    torch.manual_seed(0)
    base = tiny_llama(32, tie_word_embeddings=False)
    model = add_adapter(base, LoraSettings(r=2))
    examples = [([min(i, 30) for i in ids], labels) for ids, labels in rows()]
    trainer = trainer_for(
        tmp_path,
        model,
        [(ids, [min(label, 30) for label in labels]) for ids, labels in examples],
        per_device_train_batch_size=2,
        gradient_accumulation_steps=1,
        logging_steps=1,
        learning_rate=1e-2,
        warmup_ratio=0,
        **settings,
    )
    with torch.no_grad():
        base.get_input_embeddings().weight[BAD] = float("nan")
    for row in bad_rows:
        trainer.train_dataset[row - 1]["input_ids"][0] = BAD
    return trainer


def weights_by_step(trainer):
    """The weights that learn behind every step."""
    from transformers import TrainerCallback

    seen = []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **_):
            learning = [p for p in model.parameters() if p.requires_grad]
            seen.append(torch.cat([p.detach().flatten() for p in learning]))

    trainer.add_callback(Look())
    return seen


def test_a_bad_row_stops_the_run_and_is_named_among_the_rows_of_its_step(tmp_path):
    trainer = spoilt(tmp_path, [5])
    with pytest.raises(TrainingError) as caught:
        trainer.train()
    assert "the loss is nan; nothing was updated by it. Its 2 rows: " in caught.value.problem
    assert caught.value.problem.endswith(" Not finite alone: rows.json:5.")
    (line,) = read_lines(tmp_path / HEALTH_NAME)
    assert line["stopped"] is True
    assert (len(line["rows"]), line["not_finite_alone"]) == (2, ["rows.json:5"])


@pytest.mark.parametrize("backend", ["fast", "transformers"])
def test_a_step_that_is_passed_over_updates_nothing_and_counts_for_nothing(
    tmp_path, capfd, backend
):
    settings = {"weight_decay": 0.1, "max_grad_norm": 1.0, "backend": backend}
    trainer = spoilt(tmp_path, [5], bad_steps="skip", **settings)
    seen = weights_by_step(trainer)
    trainer.train()
    (line,) = read_lines(tmp_path / HEALTH_NAME)
    bad = line["step"]
    moved = [not torch.equal(a, b) for a, b in itertools.pairwise(seen)]
    assert moved == [step != bad for step in range(2, 5)]
    assert trainer.state.global_step == len(seen) == 4
    assert (trainer.counters.skipped, trainer.counters.skipped_in_a_row) == (1, int(bad == 4))
    assert {int(state["step"]) for state in trainer.optimizer.state.values()} == {3}
    assert len(trainer.counters.recent) == 3
    logged = {line["step"] for line in trainer.state.log_history if "loss" in line}
    assert logged == {1, 2, 3, 4} - {bad}
    assert f"warning: step {bad} is passed over: the loss is nan" in capfd.readouterr().err


def test_a_mean_loss_is_that_of_the_steps_that_were_taken(tmp_path):
    trainer = spoilt(tmp_path, [5], bad_steps="skip")
    trainer.args.logging_steps = trainer.state.logging_steps = 4
    trainer.train()
    (logged,) = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert logged == pytest.approx(trainer.counters.loss / 3)
    assert logged == pytest.approx(sum(trainer.counters.recent) / 3)


def test_six_bad_steps_in_a_row_stop_a_run_that_passes_over_them(tmp_path):
    trainer = spoilt(tmp_path, range(1, 9), bad_steps="skip", num_train_epochs=2)
    with pytest.raises(TrainingError, match="step 6: 6 steps in a row were no good") as caught:
        trainer.train()
    assert "it is the weights rather than a row" in caught.value.problem


def test_a_row_whose_gradient_alone_is_not_finite_is_found_too(tmp_path):
    trainer = spoilt(tmp_path, [])
    weight = next(p for n, p in trainer.model.named_parameters() if "lora_B" in n)
    original = trainer._accumulation.backward

    def backward(records, **rest):
        loss = original(records, **rest)
        if any(ids == trainer.train_dataset[2]["input_ids"] for ids, _ in records):
            weight.grad[0, 0] = float("inf")
        return loss

    trainer._accumulation.backward = backward
    with pytest.raises(TrainingError, match="the gradient is not finite") as caught:
        trainer.train()
    assert caught.value.problem.endswith(" Not finite alone: rows.json:3.")


def test_a_step_with_nothing_to_learn_from_says_so_with_its_rows(tmp_path):
    trainer = trainer_for(
        tmp_path, adapted(), rows(), per_device_train_batch_size=1, gradient_accumulation_steps=1
    )
    for row in trainer.train_dataset[:3]:
        row["labels"] = [-100] * len(row["labels"])
    with pytest.raises(TrainingError) as caught:
        trainer.train()
    assert caught.value.problem.startswith("the step has no token to learn from; nothing was")
    assert re.search(r"Its row: rows\.json:[123]\.$", caught.value.problem)
    assert "learning_rate" not in caught.value.remedy


def test_a_loss_far_above_the_others_is_noted_with_its_rows_and_training_goes_on(tmp_path):
    trainer = trainer_for(
        tmp_path, adapted(), rows(), per_device_train_batch_size=4, gradient_accumulation_steps=1
    )
    trainer.counters.recent = [0.5] * 30
    trainer.train()
    lines = read_lines(tmp_path / HEALTH_NAME)
    assert [line["event"] for line in lines] == ["loss_spike"] * 2
    assert sorted(lines[0]["rows"] + lines[1]["rows"]) == [f"rows.json:{n}" for n in range(1, 9)]
    assert trainer.state.global_step == 2


def test_a_run_without_gradients_is_refused(tmp_path):
    model = adapted()
    for module in model.modules():
        if hasattr(module, "lora_B"):
            module.scaling = {"default": 0.0}
    with pytest.raises(TrainingError, match="received no gradient"):
        trainer_for(tmp_path, model, rows()).train()


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("get_train_dataloader", ["self"]),
        ("training_step", ["self", "model", "inputs", "num_items_in_batch"]),
        ("evaluate", ["self", "eval_dataset", "ignore_keys", "metric_key_prefix"]),
    ],
)
def test_the_methods_that_are_replaced_still_have_the_signatures_relied_on(name, parameters):
    assert list(inspect.signature(getattr(Trainer, name)).parameters) == parameters
    assert list(inspect.signature(getattr(BurnishTrainer, name)).parameters) == parameters


def test_stock_training_still_takes_a_loss_that_is_scaled():
    assert "loss_is_scaled_for_ga" in inspect.getsource(Trainer.training_step)


RANK = """
import sys
from pathlib import Path
import torch
from tests.training.test_trainer import trainer_for, adapted, rows
folder = Path(sys.argv[1])
trainer = trainer_for(
    folder / "run", adapted(), rows(), learning_rate=1e-2, warmup_ratio=0, num_train_epochs=3,
    per_device_train_batch_size=int(sys.argv[2]), gradient_accumulation_steps=1, logging_steps=1,
)
trainer.train()
state = {n: p.detach() for n, p in trainer.model.named_parameters() if p.requires_grad}
losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
saved = (state, trainer.counters, losses)
torch.save(saved, folder / f"{trainer.accelerator.process_index}.pt")
"""


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path):

    script = tmp_path / "rank.py"
    script.write_text(RANK, encoding="utf-8")
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    results = {}
    for ranks, size in ((1, 8), (2, 8)):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command = [sys.executable, *launch, str(script), str(folder), str(size)]
        subprocess.run(command, check=True, env=environment, capture_output=True)
        results[ranks] = [
            torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(ranks)
        ]
    ((expected, counters, losses),) = results[1]
    for state, own, logged in results[2]:
        assert (own.tokens, own.supervised_tokens) == (counters.tokens, counters.supervised_tokens)
        assert own.loss == pytest.approx(counters.loss, rel=1e-5)
        assert logged == pytest.approx(losses, rel=1e-4)
        for name, weight in expected.items():
            torch.testing.assert_close(state[name], weight, rtol=0, atol=1e-5)
            assert torch.equal(state[name], results[2][0][0][name])


BAD_RANK = """
import os
import sys
from pathlib import Path
from burnish.errors import TrainingError
from tests.training.test_trainer import spoilt
folder = Path(sys.argv[1])
rank = os.environ["RANK"]
trainer = spoilt(folder / rank, [5])
try:
    trainer.train()
except TrainingError as error:
    (folder / f"{rank}.txt").write_text(f"{trainer.state.global_step} {error.problem}")
"""


@pytest.mark.slow
def test_a_bad_row_on_one_rank_stops_both_before_the_same_update(tmp_path):
    script = tmp_path / "rank.py"
    script.write_text(BAD_RANK, encoding="utf-8")
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, *launch, str(script), str(tmp_path)]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    first, second = ((tmp_path / f"{rank}.txt").read_text() for rank in (0, 1))
    assert first == second
    assert " the loss is nan; nothing was updated by it. Its 2 rows: " in first
    assert first.endswith(" Not finite alone: rows.json:5.")
    lines = [read_lines(tmp_path / str(rank) / HEALTH_NAME) for rank in (0, 1)]
    assert lines[0] == lines[1]
