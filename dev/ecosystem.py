"""The package of the Comfy Registry, judged by the tools that meet it: `python -m nox -s ecosystem`.

comfy-cli validates and packs it (`comfy node validate`, `comfy node pack`; .comfyignore says what stays behind). Then the package alone,
without the repository, goes through comfy-test's level SYNTAX, through comfy-import-guard and into a real ComfyUI, which must serve all
nodes of node_list.json and all example workflows with their pictures. Fails at the first of these that is not so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import hosts
from server import PACK, Server

MOST_BYTES = 1_500_000
# What comfy-import-guard looks references up in.
COMFYUI_PACKAGES = ("comfy", "comfy_api", "comfy_execution", "comfy_extras")


def told(*command: str, cwd: Path) -> str:
    """What a command prints, both streams, which is shown too; stops here if it fails."""
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, cwd=cwd, **both, encoding="utf-8")
    print(done.stdout, flush=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed ({done.returncode}).")
    return done.stdout


def comfy(*command: str) -> str:
    return told("comfy", "--skip-prompt", "--no-enable-telemetry", *command, cwd=hosts.ROOT)


def validate() -> None:
    if "warning" in comfy("node", "validate").lower():
        raise SystemExit("comfy node validate warns, see above: the registry may refuse the pack for it one day.")


def package(folder: Path) -> Path:
    """The pack as the registry would hand it out, unpacked in ``folder``/custom_nodes."""
    comfy("node", "pack")
    archive = shutil.move(hosts.ROOT / "node.zip", folder)
    size = os.path.getsize(archive)
    print(f"package: {size:,} bytes of at most {MOST_BYTES:,}")
    target = folder / "custom_nodes" / PACK
    with zipfile.ZipFile(archive) as files:
        if size > MOST_BYTES:
            largest = sorted(files.infolist(), key=lambda file: -file.compress_size)[:10]
            print(*(f"{file.compress_size:>10,} {file.filename}" for file in largest), sep="\n")
            raise SystemExit("The package is too large: leave files out in .comfyignore, or make them smaller.")
        files.extractall(target)
    return target


# comfy-test's own command would install a ComfyUI for this.
SYNTAX = """
import sys, types, pathlib
from comfy_test.orchestration.levels import syntax
syntax.run(types.SimpleNamespace(node_dir=pathlib.Path(sys.argv[1]), log=print, server=None, api=None))
"""


def check_syntax(pack: Path) -> None:
    """comfy-test's level SYNTAX of the unpacked package: characters, and what of torch ComfyUI has a better way for."""
    told(sys.executable, "-c", SYNTAX, str(pack), cwd=pack.parent)


def guard_imports(folder: Path, host: hosts.Host) -> None:
    """comfy-import-guard of the unpacked package against ``host``. It reads ComfyUI from a git repository, made here."""
    repository = folder / "guard" / "ComfyUI"
    for name in COMFYUI_PACKAGES:
        shutil.copytree(host.path / name, repository / name, ignore=shutil.ignore_patterns("__pycache__"))
    tag = f"v{host.version}"
    git = ("git", "-c", "user.name=ecosystem", "-c", "user.email=ecosystem@localhost")
    for command in (("init", "-q"), ("add", "--force", "."), ("commit", "-q", "--message", tag), ("tag", tag)):
        subprocess.run([*git, *command], cwd=repository, check=True)
    where = ("--comfy-dir", str(folder), "--cache-dir", str(repository.parent))
    told("comfy-import-guard", "check", *where, "--target", tag, "--offline", "--no-update", "--strict", cwd=folder)


def serve(folder: Path, pack: Path, host: hosts.Host) -> None:
    nodes = set(json.loads((pack / "node_list.json").read_text(encoding="utf-8")))
    examples = {path.stem for path in (hosts.ROOT / "example_workflows").glob("*.json")}
    with Server(host, folder / "run", packs=[pack]) as server:
        unserved = nodes - set(server.object_info())
        templates = set(server.get("/workflow_templates").get(PACK, ()))
        if unserved:
            print(server.log_tail())
    missing = sorted([*unserved, *(examples - templates)])
    missing += [f"{name}.jpg" for name in examples if not (pack / "example_workflows" / f"{name}.jpg").is_file()]
    if missing:
        some = ", ".join(missing[:10])
        raise SystemExit(f"With the package alone, ComfyUI {host.version} lacks {len(missing)} things, such as {some}.")
    print(f"ComfyUI {host.version} with the package alone: {len(nodes)} nodes, {len(examples)} example workflows")


def main() -> None:
    host = hosts.host()
    validate()
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        pack = package(folder)
        check_syntax(pack)
        guard_imports(folder, host)
        serve(folder, pack, host)


if __name__ == "__main__":
    main()
