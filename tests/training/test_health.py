"""Health: gradients that are none, steps that are not finite, and losses far above the others."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from burnish.errors import TrainingError
from burnish.models.loading import load_base
from burnish.recipe import ModelSection
from burnish.scoring import collate, supervised_logits
from burnish.training.health import (
    LEAST,
    NO_TARGETS,
    SPIKE,
    WINDOW,
    EarlyStopping,
    Health,
    are_finite,
    bad_step,
    check_gradients,
    fault_of,
    named,
    spike_score,
)
from burnish.training.journal import read_lines
from burnish.training.saving import Counters
from tests.training.test_adapter import ROWS, adapted, backward


def test_gradients_that_arrive_pass_the_check():
    model = adapted()
    backward(model)
    check_gradients(model)


def test_a_layer_without_a_gradient_is_named():
    model = adapted()
    backward(model)
    cut_off = model.base_model.model.model.layers[1].mlp.up_proj
    for parameter in [*cut_off.lora_A.parameters(), *cut_off.lora_B.parameters()]:
        parameter.grad = None
    with pytest.raises(TrainingError, match=r"layers\.1\.mlp\.up_proj.*received no gradient"):
        check_gradients(model)


def test_a_gradient_of_zeros_counts_as_none():
    model = adapted()
    backward(model)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.zero_()
    with pytest.raises(TrainingError, match="received no gradient"):
        check_gradients(model)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_refused(value):
    model = adapted()
    backward(model)
    next(p for p in model.parameters() if p.grad is not None).grad[0, 0] = value
    with pytest.raises(TrainingError, match="not finite"):
        check_gradients(model)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("width", ["load_in_8bit", "load_in_4bit"])
def test_gradients_arrive_on_a_quantized_base_also_after_an_evaluation(tiny_model, width):
    pytest.importorskip("bitsandbytes")
    section = ModelSection(name_or_path=str(tiny_model), **{width: True})
    base = load_base(tiny_model, section, dtype=torch.float32)
    assert base.is_quantized
    model = adapted(base)
    for _ in range(2):
        model.eval()
        with torch.no_grad():
            supervised_logits(model, collate(ROWS))
        model.train()
        model.zero_grad()
        backward(model)
        check_gradients(model)


# --- experts ----------------------------------------------------------------------------------


class Adapted(torch.nn.Module):
    """What PEFT puts in a layer's place: A and B of one adapter."""

    def __init__(self, has_gradient):
        super().__init__()
        self.lora_A = torch.nn.ModuleDict({"default": torch.nn.Linear(2, 1, bias=False)})
        self.lora_B = torch.nn.ModuleDict({"default": torch.nn.Linear(1, 2, bias=False)})
        if has_gradient:
            for parameter in self.parameters():
                parameter.grad = torch.ones_like(parameter)


def mixture(*experts):
    """A layer of experts, each with two adapter layers that have a gradient or none."""
    block = torch.nn.Module()
    block.experts = torch.nn.ModuleList(
        torch.nn.ModuleDict({"up": Adapted(up), "down": Adapted(down)}) for up, down in experts
    )
    return block


def test_an_expert_that_saw_no_token_is_no_fault():
    check_gradients(mixture((True, True), (False, False), (True, True)))


def test_an_expert_half_of_which_got_a_gradient_is_one():
    with pytest.raises(TrainingError, match=r"experts\.1\.down: it received no gradient"):
        check_gradients(mixture((True, True), (True, False)))


def test_experts_none_of_which_got_a_gradient_are_one():
    with pytest.raises(TrainingError, match=r"experts\.0\.up: it received no gradient"):
        check_gradients(mixture((False, False), (False, False)))


@pytest.mark.parametrize("name", ["gate", "router"])
def test_a_router_without_a_gradient_is_none_where_its_experts_have_one(name):
    block, alone = mixture((True, True), (False, False)), torch.nn.Module()
    for holder in (block, alone):
        holder.add_module(name, Adapted(has_gradient=False))
    check_gradients(torch.nn.ModuleDict({"mlp": block}))
    with pytest.raises(TrainingError, match=f"{name}: it received no gradient"):
        check_gradients(torch.nn.ModuleDict({"mlp": alone}))


@pytest.mark.filterwarnings("ignore:The following .* keys did not match")
@pytest.mark.parametrize("top", [1, 2])
def test_a_mixture_of_transformers_passes_when_a_few_tokens_reach_a_few_experts(top):
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=top,
    )  # fmt: skip
    model = adapted(MixtralForCausalLM(config))
    ids = torch.tensor([[3, 4, 5]])
    model(input_ids=ids, labels=ids).loss.backward()
    check_gradients(model)


def test_a_model_without_adapter_layers_needs_some_gradient():
    model = torch.nn.Linear(2, 2)
    with pytest.raises(TrainingError, match="the model: it received no gradient"):
        check_gradients(model)
    model.weight.grad = torch.ones_like(model.weight)
    check_gradients(model)


# --- bad steps --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss, num_supervised, is_finite, fault",
    [
        (1.0, 5, True, ""),
        (float("nan"), 5, True, "the loss is nan"),
        (float("inf"), 5, True, "the loss is inf"),
        (float("-inf"), 5, False, "the loss is -inf"),
        (1.0, 5, False, "the gradient is not finite"),
        (0.0, 0, True, NO_TARGETS),
        (float("nan"), 0, False, NO_TARGETS),
    ],
)
def test_what_forbids_an_update(loss, num_supervised, is_finite, fault):
    assert fault_of(loss, num_supervised, gradient_is_finite=is_finite) == fault


def test_gradients_are_finite_if_all_are_and_none_counts_for_nothing():
    good, bad = torch.ones(2), torch.tensor([1.0, float("nan")])
    assert are_finite([good, None])
    assert are_finite([])
    assert not are_finite([good, bad])


@pytest.mark.parametrize(
    "alone, said, remedy",
    [
        (["b"], "Not finite alone: b.", "Look at that row"),
        ([], "Each of them alone is finite.", "Lower train.learning_rate"),
        (["a", "b"], "it is the weights rather than a row.", "Lower train.learning_rate"),
        (None, "Its 2 rows: a, b.", "Lower train.learning_rate"),
    ],
)
def test_the_error_of_a_bad_step_names_its_rows_and_what_is_known_of_each(alone, said, remedy):
    error = bad_step(7, "the loss is nan", ["a", "b"], alone)
    assert error.where == "step 7"
    assert error.problem.startswith("the loss is nan; nothing was updated by it. Its 2 rows: a, b.")
    assert error.problem.endswith(said)
    assert error.remedy.startswith(remedy)


def test_a_step_without_a_token_to_learn_from_does_not_blame_the_learning_rate():
    error = bad_step(7, NO_TARGETS, ["a"], None)
    assert "learning_rate" not in error.remedy
    assert "audit-labels" in error.remedy


def test_a_message_names_eight_rows_and_counts_the_others():
    assert named(["a", "b"]) == "a, b"
    assert named([str(i) for i in range(8)]) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert named([str(i) for i in range(11)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 3 more"


def refuse(health, counters, step=1):
    health.refuse(step, "the loss is nan", counters, rows=lambda: ["a", "b"], alone=lambda: ["b"])


def test_a_bad_step_stops_and_is_written_down_with_its_rows(tmp_path):
    path = tmp_path / "health.jsonl"
    with pytest.raises(TrainingError, match="the loss is nan"):
        refuse(Health(path, "stop"), Counters())
    assert read_lines(path) == [
        {
            "step": 1,
            "event": "bad_step",
            "fault": "the loss is nan",
            "stopped": True,
            "rows": ["a", "b"],
            "not_finite_alone": ["b"],
        }
    ]


def test_five_bad_steps_in_a_row_may_be_passed_over_and_not_six(tmp_path, capfd):
    path = tmp_path / "health.jsonl"
    health, counters = Health(path, "skip"), Counters()
    for step in range(1, 6):
        refuse(health, counters, step)
    said = capfd.readouterr().err
    assert said.count("passed over: the loss is nan; nothing was updated by it. Its 2 rows: a, b.")
    assert (counters.skipped, counters.skipped_in_a_row) == (5, 5)
    with pytest.raises(TrainingError, match="step 6: 6 steps in a row were no good; the last: the"):
        refuse(health, counters, 6)
    assert [line["stopped"] for line in read_lines(path)] == [False] * 5 + [True]


def test_a_good_step_in_between_starts_the_count_anew():
    health, counters = Health(None, "skip"), Counters()
    for _ in range(5):
        refuse(health, counters)
    health.accept(6, 1.0, counters, is_spike=False, rows=list)
    assert (counters.skipped, counters.skipped_in_a_row, counters.recent) == (5, 0, [1.0])
    refuse(health, counters)


# --- spikes -----------------------------------------------------------------------------------


def test_the_score_of_a_loss_by_hand():
    # The median of 1, 2, ..., 21 is 11, the median distance from it 5, so 1.4826 x 5 = 7.413.
    recent = [float(x) for x in range(1, 22)]
    assert spike_score(11.0, recent) == 0
    assert spike_score(11.0 + 7.413 * 7, recent) == pytest.approx(7)
    assert spike_score(0.0, recent) < 0


def test_a_loss_that_hardly_varies_makes_no_spike_of_a_few_percent():
    assert spike_score(1.1, [1.0] * 30) == pytest.approx(5)
    assert spike_score(1.2, [1.0] * 30) == pytest.approx(10)


def test_nothing_is_a_spike_before_there_is_something_to_compare_with():
    assert spike_score(100.0, [1.0] * (LEAST - 1)) == 0
    assert spike_score(100.0, [1.0] * LEAST) > SPIKE
    assert not spike_score(float("nan"), [1.0] * LEAST) > SPIKE


def test_a_noisy_falling_loss_has_no_spikes():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, generator=generator).tolist()
    losses = [1 + 2 * math.exp(-step / 3000) + 0.1 * noise[step] for step in range(20_000)]
    spikes = [
        step
        for step in range(LEAST, 20_000)
        if spike_score(losses[step], losses[max(0, step - WINDOW) : step]) > SPIKE
    ]
    assert spikes == []


def test_a_spike_is_written_down_with_its_rows_and_warned_of(tmp_path, capfd):
    path = tmp_path / "health.jsonl"
    counters = Counters(recent=[1.0] * 30)
    Health(path).accept(31, 2.0, counters, is_spike=True, rows=lambda: ["a.csv:3", "a.csv:9"])
    assert read_lines(path) == [
        {
            "step": 31,
            "event": "loss_spike",
            "loss": 2.0,
            "median": 1.0,
            "score": 50.0,
            "rows": ["a.csv:3", "a.csv:9"],
        }
    ]
    said = capfd.readouterr().err
    assert "warning: step 31: the loss is 2.0000 where the median" in said
    assert "its rows: a.csv:3, a.csv:9" in said
    assert counters.recent[-1] == 2.0


def test_only_so_many_losses_are_kept():
    counters = Counters(recent=[1.0] * WINDOW)
    Health(None).accept(1, 2.0, counters, is_spike=False, rows=list)
    assert counters.recent == [1.0] * (WINDOW - 1) + [2.0]


# --- early stopping ---------------------------------------------------------------------------


def test_training_ends_after_so_many_evaluations_that_are_not_better_by_the_threshold(capfd):
    stopping = EarlyStopping(2, 0.1)
    control = SimpleNamespace(should_training_stop=False)
    args = SimpleNamespace(metric_for_best_model="eval_loss", greater_is_better=False)
    best = None
    for step, loss in enumerate([2.0, 1.95, 1.8, 1.75], start=1):
        state = SimpleNamespace(best_metric=best, global_step=step)
        stopping.on_evaluate(args, state, control, {"eval_loss": loss})
        best = loss if best is None else min(best, loss)
        # 1.95 is better by too little, 1.8 by 0.15, 1.75 by too little again: once in a row.
        assert not control.should_training_stop
    state = SimpleNamespace(best_metric=best, global_step=5)
    stopping.on_evaluate(args, state, control, {"eval_loss": 1.7})
    assert control.should_training_stop
    assert "step 5: training ends here, because the last 2 evaluations" in capfd.readouterr().err
