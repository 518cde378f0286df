"""The trainer: its loss against a plain loop, and the private methods that it replaces."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Trainer

from burnish.errors import TrainingError
from burnish.recipe import LoraSettings, TrainSection
from burnish.training.adapter import add_adapter
from burnish.training.backends import choose_backend
from burnish.training.loss import PLAIN, LossTerms
from burnish.training.steps import StepBatches
from burnish.training.train import training_arguments
from burnish.training.trainer import BurnishTrainer, Packing
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
    model = add_adapter(tiny_llama(32), LoraSettings(r=2), gradient_checkpointing=False)
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
    backend = choose_backend(model, examples, wanted=section.backend, terms=terms, num_recomputed=0)
    return BurnishTrainer(
        model=model,
        args=training_arguments(section, tmp_path, has_validation=bool(validation)),
        train_dataset=[{"input_ids": i, "labels": labels} for i, labels in examples],
        eval_dataset=examples if validation else None,
        validation=validation,
        keep=2,
        backend=backend,
        packing=Packing(section.row_length, section.packing, section.share_prefixes),
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
    original = trainer._packing.rows

    class Watching:
        def rows(self, records, backend):
            seen.append(sorted(tuple(ids) for ids, _ in records))
            return original(records, backend)

    trainer._packing = Watching()
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
        ("_get_output_dir", ["self", "trial"]),
        ("_save_checkpoint", ["self", "model", "trial"]),
        ("_load_best_model", ["self"]),
        ("get_train_dataloader", ["self"]),
        ("training_step", ["self", "model", "inputs", "num_items_in_batch"]),
        ("evaluate", ["self", "eval_dataset", "ignore_keys", "metric_key_prefix"]),
    ],
)
def test_the_methods_that_are_replaced_still_have_the_signatures_relied_on(name, parameters):
    assert list(inspect.signature(getattr(Trainer, name)).parameters) == parameters
    assert list(inspect.signature(getattr(BurnishTrainer, name)).parameters) == parameters


def test_stock_saving_still_asks_for_its_folder_where_it_is_replaced():
    source = inspect.getsource(Trainer._save_checkpoint)
    assert "self._get_output_dir(" in source
    assert "best_model_checkpoint" in inspect.getsource(Trainer._load_best_model)
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
    for ranks, size in ((1, 8), (2, 4)):
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
