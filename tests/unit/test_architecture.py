"""The house rules that a machine can check: who imports whom, and that the host's modules stay as they are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A layer may import those to the right of it in its row, and itself.
LAYERS = {
    "": ["nodes", "training", "scheduling", "sampling", "lora", "metrics", "motion_models", "host"],
    "nodes": ["training", "scheduling", "sampling", "lora", "metrics", "motion_models", "host"],
    "training": ["scheduling", "sampling", "lora", "metrics", "motion_models", "host"],
    "scheduling": ["motion_models", "host"],
    "sampling": ["motion_models", "host"],
    "lora": ["motion_models", "host"],
    "metrics": ["motion_models", "host"],
    "motion_models": ["host"],
    "host": [],
}
SOURCES = [ROOT / "__init__.py", *(p for layer in LAYERS if layer for p in sorted((ROOT / layer).rglob("*.py")))]


def imports(path: Path) -> set[tuple[str, ...]]:
    """The modules of the pack that a file imports, as parts of their dotted names; absolute imports get a leading ''."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {(*base, *name.split(".")) for name in names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path):
    layer = path.relative_to(ROOT).parts[0] if path.parent != ROOT else ""
    for target in imports(path):
        assert target[0] == layer or target[0] in LAYERS[layer], f"{path} imports {'.'.join(target)}"


def test_no_import_cycles():
    graph = {}
    for path in SOURCES:
        name = path.relative_to(ROOT).with_suffix("").parts
        graph[name[:-1] if name[-1] == "__init__" else name] = imports(path)
    done, active = set(), []

    def visit(module):
        assert module not in active, f"cycle: {[*active[active.index(module) :], module]}"
        if module in done or module not in graph:
            return
        active.append(module)
        for target in graph[module]:
            # `from .module import name` may also mean the submodule `module.name`
            visit(target)
        active.pop()
        done.add(module)

    for module in graph:
        visit(module)


UNCHANGED = """
import sys
sys.path[:0] = [{dev!r}]
from pack import Pack, enter_host
enter_host({host!r}, ["--cpu", "--base-directory", {base!r}])
import torch, comfy.sample, comfy.sd, comfy_extras.nodes_model_advanced, nodes

def snapshot():
    found = {{}}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("comfy", "comfy_extras", "comfy_execution", "torch", "folder_paths", "nodes"):
            for key, value in list(vars(module).items()):
                if callable(value):
                    found[name, key] = value
                if isinstance(value, type) and value.__module__ == name:
                    found.update({{(name, key, k): v for k, v in list(vars(value).items()) if callable(v) or isinstance(v, property)}})
    return found

before = snapshot()
pack = Pack()
{run}
after = snapshot()
changed = [key for key, value in before.items() if after.get(key) is not value]
assert not changed, changed
print(len(before), "attributes unchanged")
"""

RUN = """
import pytest
sys.exit_code = pytest.main(["-q", "-p", "no:cacheprovider", "--confcutdir", {tests!r}, "--comfyui", {version!r},
    {tests!r} + "/host/test_sampling.py", "-k", "several_motion_models or exception_in_the_unet"])
assert sys.exit_code == 0
"""


def unchanged(run: str, host, tmp_path) -> str:
    script = UNCHANGED.format(dev=str(ROOT / "dev"), host=str(host.path), base=str(tmp_path), run=run)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def test_nothing_of_the_host_or_torch_is_replaced_by_importing_the_pack(host, tmp_path):
    assert "attributes unchanged" in unchanged("", host, tmp_path)


def test_nothing_of_the_host_or_torch_is_replaced_by_a_run(host, tmp_path):
    run = RUN.format(tests=str(ROOT / "tests"), version=host.version)
    assert "attributes unchanged" in unchanged(run, host, tmp_path)
