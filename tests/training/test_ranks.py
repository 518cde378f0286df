"""What ranks agree on and add up: alone nothing changes; two get the sums worked out here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from burnish.errors import DataError
from burnish.training import ranks

ROOT = Path(__file__).resolve().parents[2]


def test_alone_every_function_gives_back_what_it_was_given(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    ranks.join()
    assert (ranks.num_ranks(), ranks.rank(), ranks.is_first()) == (1, 0, True)
    assert ranks.from_first(lambda: 7) == 7
    assert ranks.gathered(["a"]) == ["a"]
    assert ranks.largest_over_ranks(5) == 5
    x = torch.tensor([1.0, 2.0])
    assert ranks.sum_over_ranks(x) is x
    parameter = torch.nn.Parameter(torch.ones(2))
    ranks.sum_gradients([parameter])
    assert parameter.grad is None
    ranks.leave()


def test_tensors_travel_together_as_far_as_type_and_room_allow(monkeypatch):
    monkeypatch.setattr(ranks, "BUCKET", 10)
    kinds = [(4, "float32"), (6, "float32"), (1, "float32"), (1, "bfloat16"), (12, "bfloat16")]
    tensors = [torch.zeros(count, dtype=getattr(torch, kind)) for count, kind in kinds]
    buckets = [[len(tensor) for tensor in bucket] for bucket in ranks._buckets(tensors)]
    assert buckets == [[4, 6], [1], [1], [12]]


def test_what_went_over_the_network_flat_comes_back_in_its_shapes():
    tensors = [torch.ones(2, 3), torch.full((4,), 2.0)]
    seen = []

    def double(flat):
        seen.append(flat.shape)
        flat.mul_(2)

    ranks._in_buckets(tensors, double)
    assert seen == [(10,)]
    assert tensors[0].tolist() == [[2.0] * 3] * 2
    assert tensors[1].tolist() == [4.0] * 4


@pytest.mark.parametrize(
    "error, is_so",
    [
        (RuntimeError("[/gloo/transport/tcp/pair.cc:553] Connection closed by peer"), True),
        (torch.distributed.DistBackendError("NCCL error"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (RuntimeError("CUDA out of memory"), False),
    ],
)
def test_a_lost_connection_is_told_from_other_errors(error, is_so):
    assert ranks.is_lost_connection(error) is is_so


TWO = """
import json, os, sys
from pathlib import Path
import torch
from burnish.errors import DataError
from burnish.training import ranks

ranks.join()
number = ranks.rank()
found = {"num_ranks": ranks.num_ranks(), "is_first": ranks.is_first()}
found["from_first"] = ranks.from_first(lambda: f"of {number}")
def refuse():
    raise DataError("x.csv:1", "no such column.", "Name another.")
try:
    ranks.from_first(refuse)
except DataError as error:
    found["refused"] = str(error)
found["gathered"] = ranks.gathered([f"row {number}"] * (number + 1))
found["largest"] = ranks.largest_over_ranks(10 - number)
found["sum"] = ranks.sum_over_ranks(torch.tensor([1.0, number])).tolist()
learning = [torch.nn.Parameter(torch.full((2,), float(number))) for _ in range(2)]
frozen = torch.nn.Parameter(torch.full((2,), float(number)), requires_grad=False)
learning[0].grad = torch.full((2,), number + 1.0)
if number:
    learning[1].grad = torch.full((2,), 5.0)  # the first rank has none
ranks.sum_gradients([*learning, frozen])
found["gradients"] = [p.grad.tolist() for p in learning]
ranks.weights_of_first([*learning, frozen])
found["weights"] = [p.tolist() for p in [*learning, frozen]]
torch.manual_seed(3)
ranks.draw_apart(3)
found["drawn"] = float(torch.rand(()))
Path(sys.argv[1], f"{number}.json").write_text(json.dumps(found))
ranks.leave()
"""


def test_two_ranks_agree_and_add_up(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO, encoding="utf-8")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(
        [sys.executable, *launch, str(script), str(tmp_path)],
        check=True,
        env=environment,
        capture_output=True,
    )
    first, second = (
        json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)
    )
    assert (first.pop("is_first"), second.pop("is_first")) == (True, False)
    assert first.pop("weights") == [[0.0, 0.0]] * 3
    assert second.pop("weights") == [[0.0, 0.0]] * 2 + [[1.0, 1.0]]  # the frozen one stays
    assert first.pop("drawn") != second.pop("drawn")
    assert first == second
    assert first == {
        "num_ranks": 2,
        "from_first": "of 0",
        "refused": str(DataError("x.csv:1", "no such column.", "Name another.")),
        "gathered": ["row 0", "row 1", "row 1"],
        "largest": 10,
        "sum": [2.0, 1.0],
        "gradients": [[3.0, 3.0], [5.0, 5.0]],
    }
