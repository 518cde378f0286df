"""The merge stage: base + adapter -> a plain model that needs nothing of burnish or PEFT."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from burnish.errors import ExportError
from burnish.models.loading import load_unmerged, load_whole, own_dtype, set_threads
from burnish.models.names import find_model
from burnish.parity.checks import check_base, check_folder, check_run
from burnish.progress import say
from burnish.recipe import MergeSection, ModelSection
from burnish.rendering import load_tokenizer, stop_token_ids
from burnish.run_dir import RunDir, write_json

if TYPE_CHECKING:
    from torch import Tensor

NUM_PROBES = 4
LARGEST_KL = 1e-4
"""Mean KL divergence (nats) of merged from unmerged in float32 beyond which a merge is refused."""


class MergeReport(BaseModel):
    """Where the merged model lies, and how far its answers are from base + adapter."""

    model_config = ConfigDict(frozen=True)

    model: str
    dtype: str
    max_logit_difference: float
    kl_divergence: float
    same_top_token: float
    bytes: int


def merge(model: ModelSection, section: MergeSection, run: RunDir) -> MergeReport:
    """Merges in float32 on the original base, casts once, saves, reloads and compares.

    A quantized base is not merged into: its original weights are reloaded whole. After
    train.method full or freeze there is nothing to merge, and this is a checked copy.

    Raises:
        ExportError: merged and unmerged model do not agree.
    """
    import torch

    set_threads()
    folder = find_model(model)
    certificate = check_run(model, run)
    check_base(certificate, model, folder)
    dtype = own_dtype(folder) if section.dtype == "auto" else getattr(torch, section.dtype)
    say(f"merging in float32, saving in {str(dtype).removeprefix('torch.')}")
    probes = _probes(run)
    tuned = load_unmerged(folder, model, run)
    unmerged = _logits(tuned, probes)
    is_adapter = run.trained == run.adapter
    merged = tuned.merge_and_unload(safe_merge=True) if is_adapter else tuned
    _check_merge(unmerged, _logits(merged, probes))
    with run.fresh("merge") as out:
        _save(merged.to(dtype), model, run, out / "model")
        check_folder(certificate, model, out / "model")
        del tuned, merged
        gc.collect()
        reloaded = load_whole(out / "model", dtype=torch.float32)
        parity = compare(unmerged, _logits(reloaded, probes))
        write_json(out / "parity.json", {"num_probes": len(probes), **parity})
        size = sum(p.stat().st_size for p in (out / "model").glob("*.safetensors"))
    return MergeReport(
        model=str(run.merged), dtype=str(dtype).removeprefix("torch."), bytes=size, **parity
    )


def _probes(run: RunDir) -> list[list[int]]:
    from datasets import load_from_disk

    rows = load_from_disk(str(run.split("train")))
    return list(rows.select(range(min(NUM_PROBES, len(rows))))["input_ids"])


def _logits(model: Any, probes: list[list[int]]) -> list[Tensor]:
    import torch

    with torch.no_grad():
        return [
            model(input_ids=torch.tensor([ids], device=model.device), use_cache=False)
            .logits[0]
            .float()
            .cpu()
            for ids in probes
        ]


def compare(first: list[Tensor], second: list[Tensor]) -> dict[str, float]:
    """How far two models' logits, each [seq, vocab], are apart on the same texts.

    Returns:
        the largest difference of a logit, the mean KL divergence in nats (of `second` from
        `first`), and the share of positions at which both think the same token likeliest.
    """
    import torch

    a, b = torch.cat(first), torch.cat(second)
    divergence = torch.nn.functional.kl_div(
        b.log_softmax(-1), a.log_softmax(-1), log_target=True, reduction="none"
    ).sum(-1)
    return {
        "max_logit_difference": float((a - b).abs().max()),
        "kl_divergence": max(0.0, float(divergence.mean())),
        "same_top_token": float((a.argmax(-1) == b.argmax(-1)).float().mean()),
    }


def _check_merge(unmerged: list[Tensor], merged: list[Tensor]) -> None:
    parity = compare(unmerged, merged)
    if parity["kl_divergence"] <= LARGEST_KL:
        return
    raise ExportError(
        "merge",
        f"the merged model does not answer like base + adapter: their KL divergence is "
        f"{parity['kl_divergence']:.2e} nats, more than {LARGEST_KL:.0e}.",
        "Serve the adapter unmerged (serve.artifact: adapter), and report this with manifest.json.",
    )


def _save(merged: Any, model: ModelSection, run: RunDir, out: Path) -> None:
    tokenizer = load_tokenizer(run.tokenizer, model)
    settings = merged.generation_config
    stops = stop_token_ids(tokenizer)
    settings.eos_token_id = stops if len(stops) > 1 else stops[0]
    settings.pad_token_id = tokenizer.pad_token_id
    merged.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))
