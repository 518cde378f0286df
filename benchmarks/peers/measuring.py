"""What every peer's run is measured by: the same records in, one line of JSON out.

A record is {"prompt": ids, "completion": ids, "user": text, "output": text, "system": text}. Memory
is the highest resident size from the start of training on (loading is left out for all).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LEARNING_RATE = 2e-4


class Job:
    """What a peer is asked for: `python peers/x.py JOB.json`."""

    def __init__(self) -> None:
        import torch

        values = json.loads(Path(sys.argv[1]).read_text())
        self.model: str = values["model"]  # a folder in the type that is asked for
        self.mode: str = values["mode"]
        self.dtype = getattr(torch, values["dtype"])
        self.folder = Path(values["folder"])
        self.records: list[dict] = values["records"]
        self.held_out: list[dict] = values["held_out"]
        self.max_length: int = values["max_length"]
        self.rows: int = values.get("rows", 1)  # of max_length, that go through a GPU at a time
        torch.set_num_threads(values["threads"])

    @property
    def num_tokens(self) -> int:
        """Of all records, without padding."""
        return sum(len(r["prompt"]) + len(r["completion"]) for r in self.records)

    def chats(self) -> list[dict]:
        """The records as chat messages, the answer apart."""
        chats = []
        for record in self.records:
            system = [{"role": "system", "content": record["system"]}] if record["system"] else []
            prompt = [*system, {"role": "user", "content": record["user"]}]
            answer = [{"role": "assistant", "content": record["output"]}]
            chats.append({"prompt": prompt, "completion": answer})
        return chats


class Measured:
    """`with Measured() as it:` around training."""

    def __enter__(self) -> Measured:
        Path("/proc/self/clear_refs").write_text("5")  # the highest size so far starts anew
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self.wall
        self.cpu = time.process_time() - self.cpu
        self.gib = peak_gib()


def peak_gib() -> float:
    """The highest resident size of this process so far."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(s.split()[1]) for s in status if s.startswith("VmHWM")) / 2**20


def report(job: Job, measured: Measured, losses: list[float], model: object) -> None:
    """Prints the figures of a run on the last line of stdout."""
    print(
        json.dumps(
            {
                "useful_tokens_per_cpu_second": job.num_tokens / measured.cpu,
                "useful_tokens_per_second": job.num_tokens / measured.wall,
                "peak_gib": measured.gib,
                "first_losses": [round(loss, 4) for loss in losses[:3]],
                "held_out_loss": held_out_loss(model, job.held_out),
            }
        ),
        flush=True,
    )


def held_out_loss(model: object, records: list[dict]) -> float:
    """Mean loss over the answers' tokens, one unpadded record at a time."""
    import torch

    model.eval()
    total = count = 0.0
    with torch.no_grad():
        for record in records:
            ids, start = (
                torch.tensor([record["prompt"] + record["completion"]], device=model.device),
                len(record["prompt"]),
            )
            logits = model(input_ids=ids, use_cache=False).logits[0, start - 1 : -1].float()
            total += float(
                torch.nn.functional.cross_entropy(logits, ids[0, start:], reduction="sum")
            )
            count += len(record["completion"])
    return total / count
