"""Starting several processes."""

import os


def torchrun(processes: int) -> list[str]:
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]


def environment() -> dict[str, str]:
    """One thread for each process, as torchrun has it."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}
