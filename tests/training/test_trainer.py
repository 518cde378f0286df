"""The trainer: its loss against a plain loop, and the private methods that it replaces."""

from __future__ import annotations

import inspect

import pytest
import torch
from transformers import Trainer

from burnish.errors import TrainingError
from burnish.recipe import LoraSettings, TrainSection
from burnish.scoring import collate
from burnish.training.adapter import add_adapter
from burnish.training.train import training_arguments
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
    model = add_adapter(tiny_llama(32), LoraSettings(r=2), gradient_checkpointing=False)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # so that A's gradients are not zero either
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def trainer_for(tmp_path, model, examples, validation=(), **settings):
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
    data = [{"input_ids": i, "labels": labels, "length": len(i)} for i, labels in examples]
    return BurnishTrainer(
        model=model,
        args=training_arguments(section, tmp_path, has_validation=bool(validation)),
        train_dataset=data,
        eval_dataset=data if validation else None,
        data_collator=lambda batch: collate([(r["input_ids"], r["labels"]) for r in batch]),
        validation=validation,
        keep=2,
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


def gradients(tmp_path, size, steps):
    trainer = trainer_for(
        tmp_path,
        adapted(),
        rows(),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=steps,
    )
    caught = Gradients(trainer)
    output = trainer.train()
    (seen,) = caught.seen
    return seen, output.training_loss


def plain_loop():
    """Loss and gradients of all rows one by one: the sum of losses over the sum of tokens."""
    model = adapted()
    total, count = torch.zeros(()), 0
    for ids, labels in rows():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(
            logits, torch.tensor(labels[1:]), ignore_index=-100, reduction="sum"
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


@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_validation_loss_does_not_depend_on_the_batch_size(tmp_path, size):
    _, expected = plain_loop()
    trainer = trainer_for(
        tmp_path,
        adapted(),
        rows(),
        rows(),
        per_device_eval_batch_size=size,
        eval_strategy="epoch",
    )
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-6)


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
        ("compute_loss", ["self", "model", "inputs", "return_outputs", "num_items_in_batch"]),
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
