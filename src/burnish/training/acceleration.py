"""What makes a model's own forward faster: flash-attn or torch's like, Liger's, torch.compile.

Each has to show on a few records that it computes the same before a step is made with it. What
`auto` chose and does not is left out again, and said; what the recipe asks for and does not is an
error.

Source: Dao 2023, "FlashAttention-2"; Hsu et al. 2024, "Liger Kernel"; Ansel et al. 2024,
"PyTorch 2".
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch

from burnish.errors import TrainingError, first_line
from burnish.models.attention import FLASH, attention_of, leave_flash
from burnish.models.loading import pick_device
from burnish.models.lora import base_of
from burnish.progress import say, warn
from burnish.training import sharded
from burnish.training.backends import Backend, check_isolation_of
from burnish.training.comparison import (
    device_of,
    difference,
    measure,
    nudged,
    probe_of,
    tolerance_of,
)
from burnish.training.loss import LossTerms
from burnish.training.packed_model import PackedModel, run_model
from burnish.training.packing import Record, pack, pad_row
from burnish.training.varlen import against_varlen, use_varlen


def settle_attention(model: Any, records: Sequence[Record]) -> None:
    """Lets a GPU attend to each record of a row by itself, if that computes the same.

    flash-attn, which loading took where it is installed, is taken out again if a record sees its
    neighbour by it, or it fails; without it torch's own kernel is put in, if it agrees with the
    attention that the model has.

    Args:
        model: a model on its device, changed in place.
        records: training records to try it on.
    """
    model.eval()
    if attention_of(model) == FLASH:
        _check_flash(model, records)
    elif not against_varlen(model) and not sharded.is_asked_for():
        _try_varlen(model, records)


def _check_flash(model: Any, records: Sequence[Record]) -> None:
    try:
        check_isolation_of(model, PackedModel(model).loss_sum, probe_of(records))
    except (TrainingError, RuntimeError, ValueError, ImportError) as error:
        other = leave_flash(base_of(model))
        warn(f"{other} takes the place of flash-attn: {first_line(error)}")
    else:
        say("flash-attn computes the attention of the model's own forward")


def _try_varlen(model: Any, records: Sequence[Record]) -> None:
    probe, before, loss_sum = probe_of(records), attention_of(model), PackedModel(model).loss_sum
    alone = [row for record in probe for row in pack([record], 2**31, share_prefixes=False)]
    together = pack(probe, 2**31, share_prefixes=False)
    with nudged(model):
        own = measure(model, loss_sum, alone)
        use_varlen(model)
        if attention_of(model) == before:  # transformers only warns of models that take none
            return
        try:
            other = measure(model, loss_sum, together)
            why = difference(own, other, tolerance_of(model))
        except (RuntimeError, ValueError, TypeError) as error:
            why = first_line(error)
    if why:
        base_of(model).set_attn_implementation(before)
        say(f"{before} computes attention; torch's varlen kernel is not taken: {why}")
    else:
        say("torch's varlen kernel computes the attention of each record: it agrees with the model")


# --- Liger's kernels -------------------------------------------------------------------------


def use_liger(model: Any, wanted: Literal["auto"] | bool, records: Sequence[Record]) -> None:
    """Lets Liger's kernels compute norms and gated MLPs, if they do it right.

    Their cross entropy is left out: burnish's own never makes logits that carry no loss. So are
    their rotary positions: they would stay in place for every model of the kind in this process.

    Args:
        model: a model on its device, changed in place.
        wanted: `auto` takes them on a GPU where the package is installed.
        records: training records to try it on.

    Raises:
        TrainingError: they are asked for and can't be used.
    """
    if wanted is False:
        return
    why = _against_liger(model) or _try_liger(model, records)
    if not why:
        say("Liger's kernels compute norms and MLPs: they agree with the model")
    elif wanted is True:
        raise TrainingError(
            "train.use_liger_kernel", f"Liger's kernels can't be used: {why}.", "Set auto or false."
        )
    elif pick_device().type == "cuda":
        say(f"Liger's kernels are not used: {why}")


def _against_liger(model: Any) -> str:
    if sharded.is_asked_for():
        return "they are not tried out on weights that are spread over processes"
    if device_of(model).type != "cuda":
        return "they need a GPU"
    if importlib.util.find_spec("liger_kernel") is None:
        return "the package liger-kernel is not installed"
    return ""


def _try_liger(model: Any, records: Sequence[Record]) -> str:
    """Puts the kernels in; takes them out again and says why if they don't compute the same."""
    model.eval()
    base, loss_sum = base_of(model), PackedModel(model).loss_sum
    rows = pack(probe_of(records), 2**31, share_prefixes=False)
    with nudged(model):
        own = measure(model, loss_sum, rows)
        take_out = _remember(base.modules())
        try:
            why = _put_liger_in(base) or difference(
                own, measure(model, loss_sum, rows), tolerance_of(model)
            )
        except _kernel_errors() as error:
            why = f"this version fails here ({first_line(error)})"
        if why:
            take_out()
    return why


def _kernel_errors() -> tuple[type[Exception], ...]:
    """What kernels fail with that were made for another transformers, Triton or GPU."""
    errors: list[type[Exception]] = [ImportError, AttributeError, TypeError, RuntimeError]
    with contextlib.suppress(ImportError):
        from triton.errors import TritonError

        errors.append(TritonError)
    return tuple(errors)


def _put_liger_in(base: Any) -> str:
    from liger_kernel.transformers.monkey_patch import (
        MODEL_TYPE_TO_APPLY_LIGER_FN,
        _apply_liger_kernel_to_instance,
    )

    kind = base.config.model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        return f"there are none for {kind}"
    # It also puts classes into the model's source file, which models to come would be made of.
    restore = _remember([sys.modules[type(base).__module__]])
    try:
        _apply_liger_kernel_to_instance(
            model=base, rope=False, cross_entropy=False, fused_linear_cross_entropy=False
        )
    finally:
        restore()
    return ""


def _remember(things: Iterable[Any]) -> Callable[[], None]:
    """What undoes all that is set from now on in modules of a model or of Python."""
    places = [thing.__dict__ for thing in things]
    before = [dict(place) for place in places]

    def undo() -> None:
        for place, then in zip(places, before, strict=True):
            for name in place.keys() - then.keys():
                del place[name]
            place.update(then)

    return undo


# --- torch.compile ---------------------------------------------------------------------------


def compiled(
    backend: Backend,
    model: Any,
    records: Sequence[Record],
    *,
    terms: LossTerms,
    row_length: int | None,
) -> Backend:
    """A backend that computes the same by the model's own forward, compiled.

    Args:
        backend: what was chosen, the model's own forward.
        model: a model on its device.
        records: training records to try it on.
        terms: what is added to plain cross entropy.
        row_length: the length that all rows are padded to, so that one compiled forward fits all;
            None where every record has a row of its own, and any length must do.

    Raises:
        TrainingError: it can't be compiled here, or computes something else.
    """
    model.eval()
    run = torch.compile(run_model, dynamic=None if row_length else True)
    plain, fast = PackedModel(model), PackedModel(model, run)
    row, *_ = pack(probe_of(records), row_length or 1, share_prefixes=False)
    row = pad_row(row, row_length or 1)
    try:
        with nudged(model):
            own, other = (measure(model, way.loss_sum, [row]) for way in (plain, fast))
    except torch._dynamo.exc.TorchDynamoException as error:
        raise _refused(f"the model can't be compiled here: {first_line(error)}") from None
    why = difference(own, other, tolerance_of(model))
    if why:
        raise _refused(f"the compiled model computes something else: {why}")
    lengths = f"rows of {row_length} tokens" if row_length else "rows of any length"
    say(f"the model's own forward is compiled, for {lengths}")
    return replace(
        backend, loss_sum=partial(fast.loss_sum, terms=terms), static_rows=row_length is not None
    )


def _refused(why: str) -> TrainingError:
    remedy = "It needs a C++ compiler, on a GPU Triton too. Or set train.torch_compile: false."
    return TrainingError("train.torch_compile", f"{why.rstrip('.')}.", remedy)
