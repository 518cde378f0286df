"""A rank with real FSDP2 on a CPU, for tests only: accelerate itself does that on GPUs alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, DistributedType, PartialState

from burnish.training.launch.rank import main

_set_up = AcceleratorState.__init__


def _set_up_sharding(self: Any, *args: Any, **kwargs: Any) -> None:
    _set_up(self, *args, **kwargs)
    plugin = kwargs.get("fsdp_plugin")
    if plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


if __name__ == "__main__":
    AcceleratorState.__init__ = _set_up_sharding
    main(Path(sys.argv[1]))
