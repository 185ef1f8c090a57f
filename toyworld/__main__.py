"""The toy world from the command line, with a ComfyUI's interpreter:

python -m toyworld train            the plain scenes, from seeds (hours); resumes where it was stopped
python -m toyworld landscapes       the larger world, from seeds (about two hours)
python -m toyworld expand FOLDER    the shipped weights as model files of ComfyUI
python -m toyworld recipe           which settings teach a MotionLoRA its direction soonest: a table
python -m toyworld lora NAME        one of the shipped MotionLoRAs anew (toyworld/live_training.py), such as path
python -m toyworld claims [--quick] measure the claims of the paper on the shipped weights; --only PART: those of one part;
                                    --go-on: with the clips that a run of the same code left when it was stopped;
                                    --live: in this process, without the dead channels: ten times as fast, for some parts
"""

import argparse
import shutil
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "dev"))

import hosts  # noqa: E402
import pack as dev_pack  # noqa: E402
from server import Server  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="toyworld", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train")
    train.add_argument("--until", default=None, help="stop after this stage")
    commands.add_parser("landscapes")
    expand = commands.add_parser("expand")
    expand.add_argument("folder", type=Path)
    lora = commands.add_parser("lora")
    lora.add_argument("name", nargs="+")
    claims = commands.add_parser("claims")
    claims.add_argument("--quick", action="store_true")
    claims.add_argument("--only", default=None, help="one part of the table, as in: --only one-shot")
    claims.add_argument("--live", action="store_true", help="without a server; for parts that need none, such as long")
    claims.add_argument("--clips", type=int, help="of each kind, in place of the part's own number; with --only")
    claims.add_argument("--go-on", action="store_true", help="take the clips that a run which was stopped left")
    recipe = commands.add_parser("recipe")
    recipe.add_argument("--variant", nargs="+", default=["defaults"], help="of toyworld/recipe.py")
    recipe.add_argument("--direction", nargs="+", default=["down", "left", "up-right"])
    recipe.add_argument("--seed", nargs="+", type=int, default=[0])
    recipe.add_argument("--steps", type=int, default=400)
    recipe.add_argument("--every", type=int, default=100, help="steps from one measurement to the next")
    recipe.add_argument("--clips", type=int, default=16, help="unseen clips of each measurement")
    recipe.add_argument("--shares", action="store_true", help="no training: how much of a clip there is on its way")
    recipe.add_argument("--lora", type=Path, help="a checkpoint of an earlier run, for --shares")
    recipe.add_argument("--rows", type=Path, default=Path("recipe.json"), help="where the rows are kept")
    arguments = parser.parse_args()

    host = hosts.host()
    if arguments.command == "recipe":
        return _recipe(host, arguments)
    folder = hosts.cache_dir() / "toyworld"
    if arguments.command == "train":
        pack = dev_pack.load_pack(host.path, ["--cpu", "--base-directory", str(folder)])
        from .recipe import Bench
        from .training import train_all

        train_all(partial(Server, host), partial(Bench, pack), folder, arguments.until)
        return 0
    if arguments.command == "landscapes":
        pack = dev_pack.load_pack(host.path, ["--cpu", "--base-directory", str(folder)])
        from .recipe import Bench
        from .training import train_landscapes

        train_landscapes(partial(Bench, pack), folder)
        return 0
    if arguments.command == "lora":
        pack = dev_pack.load_pack(host.path, ["--cpu", "--base-directory", str(folder)])
        from .live_training import train_motion_loras
        from .recipe import Bench

        train_motion_loras(partial(Bench, pack), arguments.name)
        return 0
    if arguments.command == "expand":
        dev_pack.enter_host(host.path, ["--cpu"])
        from .weights import expand as expand_weights

        expand_weights(arguments.folder)
        return 0

    folder /= "claims"
    folder.mkdir(parents=True, exist_ok=True)
    pack = dev_pack.load_pack(host.path, ["--cpu", "--base-directory", str(folder)])
    from .claims import Sampler, pictures
    from .live_clips import LiveSampler
    from .recipe import Bench

    shipped = hosts.toyworld_models(host)
    if arguments.live:
        return _claims(LiveSampler(Bench(pack), folder / "models", shipped, folder / "input"), arguments)
    if not arguments.go_on:
        shutil.rmtree(folder / "output", ignore_errors=True)
    there = pictures(folder / "output")
    with Server(host, folder, models=[shipped]) as server:
        return _claims(Sampler(server, partial(Bench, pack), there), arguments)


def _claims(sample, arguments: argparse.Namespace) -> int:
    """Print the table of what ``sample`` samples; 1 if a `must` is missed."""
    from . import claims

    found = claims.run(sample, arguments.quick, arguments.only, arguments.clips)
    print(claims.table(found))
    return 1 if any(claim.verdict == "MISSED" for claim in found) else 0


def _recipe(host: hosts.Host, arguments: argparse.Namespace) -> int:
    base = arguments.rows.with_suffix("")  # of the checkpoints
    base.mkdir(parents=True, exist_ok=True)
    pack = dev_pack.load_pack(host.path, ["--cpu", "--base-directory", str(base)])
    from . import recipe

    a = arguments
    if a.shares:
        recipe.print_shares(pack, a.lora, a.clips)
        return 0
    recipe.run(pack, a.variant, a.direction, a.seed, a.steps, a.every, a.clips, a.rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
