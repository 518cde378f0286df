"""A rank with real FSDP2 or ZeRO on a CPU, for tests only: accelerate has them on GPUs alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, DistributedType, PartialState

from burnish.training.launch.rank import main

_set_up = AcceleratorState.__init__


def _set_up_sharding(self: Any, *args: Any, **kwargs: Any) -> None:
    _set_up(self, *args, **kwargs)
    if self.distributed_type != DistributedType.MULTI_CPU:
        return
    zero = kwargs.get("deepspeed_plugin")
    if zero is not None:
        zero.set_mixed_precision("no")
        zero.select(_from_accelerator_state=True)
        self.deepspeed_plugins = zero
        kind = DistributedType.DEEPSPEED
    else:
        self.fsdp_plugin = kwargs["fsdp_plugin"]
        kind = DistributedType.FSDP
    self.distributed_type = kind
    PartialState._shared_state["distributed_type"] = kind


if __name__ == "__main__":
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    AcceleratorState.__init__ = _set_up_sharding
    main(Path(sys.argv[1]))
