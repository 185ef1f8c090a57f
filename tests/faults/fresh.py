"""What graphs make in a process that has done nothing else: `python fresh.py HOST BASE OUT NAME...`

Writes OUT/NAME.pt, the latents of each graph. Where processes can be forked each graph gets one of its own, made when
the host and the pack were imported and nothing had run; elsewhere call it with one name at a time.
"""

import os
import runpy
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
import_file = runpy.run_path(str(HERE.parents[1] / "dev" / "pack.py"))["import_file"]
dev_pack = import_file("animatediff_dev_pack", HERE.parents[1] / "dev" / "pack.py")


def make(name: str, folder: str) -> None:
    running, stand_ins, parts, graphs = (sys.modules[f"animatediff_faults_{part}"] for part in PARTS)
    graph = parts.Parts()
    graphs.GRAPHS[name](graph)
    latents = running.Prompts(stand_ins.KEPT).run(graph).value["samples"]
    torch.save(latents, os.path.join(folder, f"{name}.pt"))


PARTS = ("running", "stand_ins", "parts", "graphs")


def main(host: str, base: str, folder: str, names: list[str]) -> None:
    pack = dev_pack.load_pack(host, ["--cpu", "--base-directory", base])
    torch.set_num_threads(1)
    for part in ("tiny", "videos"):
        import_file(f"animatediff_tests_{part}", HERE.parent / f"{part}.py")
    for part in PARTS:
        import_file(f"animatediff_faults_{part}", HERE / f"{part}.py")
    stand_ins = sys.modules["animatediff_faults_stand_ins"]
    stand_ins.write_files(pack)
    with sys.modules["animatediff_faults_running"].registered(pack, stand_ins.STAND_INS):
        for name in names:
            child = os.fork() if len(names) > 1 else 0
            if child:
                _, status = os.waitpid(child, 0)
                assert status == 0, f"{name} failed"
                continue
            make(name, folder)
            if len(names) > 1:
                os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:4], sys.argv[4:])
