"""The training loop as a plan asks for it: the rows of an epoch, and the loss of one.

A plan packs records by the loop's own code, runs the loss on a model of fake tensors to count what
it keeps, and on a real one to time it; so what it says follows the loop, the fast path included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from torch import Tensor

from burnish.models.loading import pick_device, set_threads
from burnish.planning.batches import Batch, MicroBatches, Record
from burnish.planning.loops import Device, Loop
from burnish.planning.memory import setting_of
from burnish.planning.outlook import dtype_on
from burnish.planning.step import Setting, build
from burnish.planning.work import work_of
from burnish.recipe import ModelSection, Recipe, TrainSection
from burnish.training import ranks
from burnish.training.accumulation import Accumulation, Packing, deal_to_lanes
from burnish.training.backends import Backend
from burnish.training.liger_shapes import keep_as_liger, takes_liger
from burnish.training.limit import data_sheet, measured_rate
from burnish.training.llama.attention import Segment, forget_masks, num_scores
from burnish.training.llama.model import Unfit, read_model, rounded_up
from burnish.training.methods import autocasts, computing
from burnish.training.offloading import offloading, saved_on
from burnish.training.packed_model import PackedModel
from burnish.training.packing import Row
from burnish.training.recomputing import recompute_layers
from burnish.training.steps import RankShare, StepBatches

Name = Literal["fast", "int8", "transformers"]

SHORTEST_ROW = 256
"""Rows are not made shorter than this to save memory."""

REACHED: dict[Name, float] = {"fast": 0.75, "int8": 1.0, "transformers": 0.45}
"""Share of the limit (training/limit.py) that was reached where it was measured (docs/LOG.md)."""


def rehearsed_loop(recipe: Recipe, config: Any, on: Device, num_processes: int = 1) -> Loop:
    """The trainer's loop on a device: packed rows through the recipe's backend."""
    return loop_of(recipe.model, recipe.train, config, on, num_processes)


def loop_of(
    model: ModelSection, train: TrainSection, config: Any, on: Device, num_processes: int = 1
) -> Loop:
    """The loop of two sections of a recipe; one of several processes takes its part of a step."""
    setting = setting_of(model, train, config, dtype_on(on, train.bf16))
    name = _backend_name(setting, on)
    lanes = set_threads() if name != "transformers" and on == "cpu" else 1
    rows = _Packer(train, name, lanes, setting.dtype)
    return Loop(
        name=_as_computed(name, setting, on),
        training=partial(_training, train, rows, num_processes),
        validation=rows.all_at_once,
        rows=rows.of_step,
        loss=partial(_loss, name, setting, on),
        run=partial(_runner, rows, setting),
        rate=partial(_rate, name),
        bucket=ranks.BUCKET,
        smaller=_smaller(train),
        forget=forget_masks,
        elsewhere=saved_on if train.activation_offloading and on == "cuda" else None,
    )


def _backend_name(setting: Setting, on: Device) -> Name:
    """Which backend the trainer would take, unless the fast path is found not to agree."""
    train = setting.train
    own = train.backend == "transformers" or (train.backend == "auto" and on == "cuda")
    if own or train.torch_compile or train.against_fast_path or not _is_llama_like(setting):
        return "transformers"
    return "int8" if train.speed == "int8" else "fast"


def _as_computed(name: Name, setting: Setting, on: Device) -> str:
    """A name for all that a row is computed alike by."""
    casts = autocasts(setting.train, on, setting.dtype)
    own = name == "transformers"
    return (
        name + " autocast" * (own and casts) + " liger" * (own and takes_liger(setting.train, on))
    )


@lru_cache(maxsize=64)
def _is_llama_like(setting: Setting) -> bool:
    try:
        read_model(build(setting))
    except Unfit:
        return False
    return True


# --- rows -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Packer:
    """Records -> rows, by the trainer's own packing; so many lanes at most, computed in a type."""

    train: TrainSection
    name: Name
    lanes: int
    dtype: torch.dtype

    @property
    def packing(self) -> Packing:
        """How records become rows."""
        train = self.train
        return Packing(train.row_length, train.packing, train.share_prefixes)

    def backend(self, loss_sum: Callable[[Row], Tensor]) -> Backend:
        """What computes them, with a loss of one's own."""
        fast = self.name != "transformers"
        compiles = self.train.torch_compile
        name: Any = "fast" if fast else "transformers"
        return Backend(name, loss_sum, fast, takes_lanes=fast, static_rows=compiles)

    def of_step(self, records: Sequence[Record]) -> MicroBatches:
        """The rows of a step, which are dealt to lanes."""
        lanes = deal_to_lanes(records, self.lanes)
        batches = [batch for lane in lanes for batch in self._batches(lane, len(lanes))]
        return MicroBatches(tuple(batches), lanes=len(lanes))

    def all_at_once(self, records: Sequence[Record]) -> MicroBatches:
        """The rows of an evaluation, as many side by side as there are lanes."""
        batches = self._batches(records, self.lanes)
        return MicroBatches(tuple(batches), lanes=min(self.lanes, len(batches)))

    def _batches(self, records: Sequence[Record], lanes: int) -> list[Batch]:
        rows = self.packing.rows(records, self.backend(_no_loss), lanes=lanes)
        return [self._batch(row) for row in rows]

    def _batch(self, row: Row) -> Batch:
        parts = [(s.start, s.stop, s.prefix_start, s.prefix_stop) for s in row.segments]
        # The model's own forward masks a square of scores; the fast path leaves out its blocks.
        if self.name == "transformers":
            scores = len(row) ** 2
        else:
            whole = rounded_up(row, self.dtype)
            scores = num_scores(whole.segments, len(whole), self.dtype)
        return Batch(len(row), max(len(row.targets), 1), tuple(parts), scores)


def _no_loss(row: Row) -> Tensor:
    raise AssertionError("rows that are only counted have no loss")


def _training(
    train: TrainSection, rows: _Packer, num_processes: int, records: Sequence[Record]
) -> MicroBatches:
    """The rows of the first epoch, of the first process."""
    steps = StepBatches(
        [len(ids) for ids, _ in records],
        records=train.per_device_train_batch_size * train.gradient_accumulation_steps,
        tokens=train.tokens_per_step,
        seed=train.seed,
    )
    shares = RankShare(steps, rank=0, num_ranks=num_processes)
    packed = [rows.of_step([records[index] for index in share]) for share in shares if share]
    batches = tuple(batch for step in packed for batch in step.batches)
    return MicroBatches(batches, lanes=max(step.lanes for step in packed))


def _smaller(train: TrainSection) -> tuple[dict[str, Any], ...]:
    """Shorter rows; a longer record has one of its own, so less is not less for ever."""
    lengths, length = [], train.row_length // 2
    while train.packing and length >= SHORTEST_ROW:
        lengths.append({"train.row_length": length})
        length //= 2
    return tuple(lengths)


# --- loss and time ----------------------------------------------------------------------------


def _loss(
    name: Name, setting: Setting, on: Device, model: Any, batch: Batch, num_recomputed: int
) -> Callable[[], Tensor]:
    row = _row(batch, next(iter(model.parameters())).device)
    # Without random numbers to keep, which fake tensors have none of.
    loss_sum = _loss_sum(name, setting, model, num_recomputed, on, preserve_rng_state=False)
    return partial(loss_sum, row)


def _loss_sum(
    name: Name, setting: Setting, model: Any, num_recomputed: int, on: str = "", **options: Any
) -> Callable[[Row], Tensor]:
    """A row's loss as the trainer computes it, but for noise and what is added to cross entropy."""
    if name != "transformers":
        parts = read_model(model) if name == "fast" else read_model(model).in_8_bits()
        return partial(parts.loss_sum, num_recomputed=num_recomputed)
    if takes_liger(setting.train, on):
        keep_as_liger(model)
    recompute_layers(model, num_recomputed, **options)

    def own(row: Row) -> Tensor:
        with computing(model, setting.train, row.input_ids.device, setting.dtype, on):
            return PackedModel(model).loss_sum(row)

    return own


def _row(batch: Batch, device: torch.device) -> Row:
    """A row like one that was packed, of the same token all over."""
    segments = tuple(Segment(*part) for part in batch.segments)
    places = torch.arange(batch.length, device=device)
    positions = [torch.arange(s.prefix, s.prefix + len(s), device=device) for s in segments]
    predictors = places[-batch.supervised - 1 : -1]
    return Row(
        input_ids=torch.zeros_like(places),
        position_ids=torch.cat(positions),
        segments=segments,
        predictors=predictors,
        targets=torch.zeros_like(predictors),
        num_tokens=batch.length,
    )


def _runner(
    rows: _Packer, setting: Setting, model: Any, num_recomputed: int
) -> Callable[[Sequence[Record]], None]:
    backend = rows.backend(_loss_sum(rows.name, setting, model, num_recomputed))
    learning = [p for p in model.parameters() if p.requires_grad]
    if rows.train.activation_offloading and learning[0].is_cuda:
        backend = offloading(backend, model)
    work = Accumulation(backend, rows.packing, learning, learning[0].device, lanes=rows.lanes)

    def run(records: Sequence[Record]) -> None:
        work.backward(records, scale=1.0).item()  # waits for a GPU

    return run


def _rate(name: Name, model: Any, dtype: torch.dtype) -> tuple[float, str]:
    """FLOPs a second that training will about reach, and how that was found."""
    device = pick_device()
    if device.type == "cuda" and (sheet := data_sheet(torch.cuda.get_device_name(device), dtype)):
        rate = sheet[0]
    else:
        rate = measured_rate(work_of(model), dtype, device)
        if device.type == "cpu":  # a second there is one of the processor
            rate *= torch.get_num_threads()
    share, kind = REACHED[name], str(dtype).removeprefix("torch.")
    how = f"an estimate: {share:.0%} of this machine's {rate / 1e9:,.0f} GFLOP/s in {kind}"
    return share * rate, how
