"""Run scenarios in this process, one of those that torchrun started, or alone; their results go to files.

worker.py COMFYUI BASE OUT NAME...
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def load(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main(comfyui: str, base: str, out: str, *names: str, raises: bool) -> None:
    pack = load("dev_pack", ROOT / "dev" / "pack.py").load_pack(comfyui, ["--cpu", "--base-directory", base])
    import torch

    torch.set_num_threads(1)
    # A batch in parts is rounded differently than a whole one: in float64 nothing is seen of that in the gradients, which are float32.
    pack.submodule("host.training").compute_dtype = lambda *_: torch.float64
    tiny = load("tiny", ROOT / "tests" / "tiny.py")
    scenarios = load("scenarios", Path(__file__).with_name("scenarios.py"))
    with pack.submodule("training.distributed").commanded() as place:
        world = scenarios.World(pack, tiny, place.rank, place.count)
        for name in names:
            try:
                result = scenarios.SCENARIOS[name](world)
            except Exception as error:
                if raises:
                    raise
                result = {"error": f"{type(error).__name__}: {error}"}
            torch.save(result, Path(out) / f"{name}.{place.rank}")


if __name__ == "__main__":
    main(*(word for word in sys.argv[1:] if word != "--raise"), raises="--raise" in sys.argv)
