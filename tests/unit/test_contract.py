"""The host contract is complete, as far as source code tells, and its check sees what is not there."""

import ast
import re
import sys
from pathlib import Path

import pytest
from animatediff_dev_hosts import RELEASES, ROOT
from animatediff_dev_pack import import_file

LAYERS = ("nodes", "training", "scheduling", "sampling", "lora", "metrics", "motion_models", "host")
SOURCES = [ROOT / "__init__.py", *(path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py")))]
OUTSIDE_HOST = [path for path in SOURCES if path.relative_to(ROOT).parts[0] != "host"]
# All top-level modules of a ComfyUI folder and its packages.
HOST = {
    *("comfy", "comfy_api", "comfy_api_nodes", "comfy_config", "comfy_execution", "comfy_extras", "comfyui_version"),
    *("api_server", "app", "blueprints", "cuda_malloc", "execution", "folder_paths", "hook_breaker_ac10a0"),
    *("latent_preview", "main", "middleware", "node_helpers", "nodes", "protocol", "server", "utils"),
}


def identifier(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def host_imports(tree: ast.Module) -> dict[str, str]:
    """The names that a file's imports bind to modules of the host, or to things in them: name -> dotted name."""
    bound = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                bound |= {alias.asname or top: alias.name if alias.asname else top} if top in HOST else {}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] in HOST:
            bound |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return bound


def dotted(node: ast.expr, bound: dict[str, str]) -> str | None:
    """The dotted name of an expression such as ``comfy.samplers.KSampler``, if it begins with an import of the host."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in bound:
        return None
    return ".".join([bound[node.id], *reversed(parts)])


def host_names(tree: ast.Module) -> set[str]:
    """The dotted names of all that a file uses of the host by way of its imports."""
    bound = host_imports(tree)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    uses = {dotted(node, bound) for node in ast.walk(tree) if isinstance(node, ast.expr) and id(node) not in inner}
    modules = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.split(".")[0] in HOST
    }
    return {*filter(None, uses), *modules, *(name for name in bound.values() if "." in name)}


@pytest.fixture(scope="module")
def contract(pack):
    return pack.submodule("host.contract")


@pytest.fixture(scope="module")
def names_in_rows(contract) -> set[str]:
    """The names that rows speak of, and those of the modules and classes around them."""
    names = {re.sub(r"'\w+' in |\(.*", "", row.what) for row in contract.rows()}
    return {".".join(name.split(".")[: i + 1]) for name in names for i in range(len(name.split(".")))}


def test_every_use_of_the_host_has_a_row(names_in_rows):
    uses = {path: host_names(tree_of(path)) for path in SOURCES}
    assert sum(map(len, uses.values())) > 200  # the scan sees something
    without = {identifier(path): names - names_in_rows for path, names in uses.items() if names - names_in_rows}
    assert not without, f"add rows to host/contract.py for {without}"


def test_every_option_of_the_host_has_a_row(contract):
    """Keys that are read from model_options, transformer_options and the like."""
    words = set(re.findall(r"'(\w+)' in", contract.CONTRACT))
    found = {}
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Subscript):
                owner, key = node.value, node.slice
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
                owner, key = node.func.value, node.args[0] if node.args else None
            else:
                continue
            name = getattr(owner, "attr", getattr(owner, "id", ""))
            if name.endswith("options") and isinstance(key, ast.Constant) and isinstance(key.value, str):
                found.setdefault(key.value, []).append(identifier(path))
    assert len(found) > 3
    without = {key: paths for key, paths in found.items() if key not in words}
    assert not without, f"add rows to host/contract.py for {without}"


def test_what_nodes_need_is_in_the_contract(pack, contract):
    nodes = pack.submodule("nodes")
    purposes = {row.needed_for for row in contract.rows()}
    assert nodes.NEEDED_BY.keys() <= purposes
    known = nodes.FAMILIES.keys() | {node.GET_SCHEMA().node_id for node in nodes.NODES}
    assert {name for names in nodes.NEEDED_BY.values() for name in names} <= known
    assert set(nodes.ORDER) <= nodes.FAMILIES.keys()


def test_releases_are_those_that_are_tested(contract):
    releases = sorted(RELEASES, key=lambda version: tuple(map(int, version.split("."))))
    assert (releases[0], releases[-1]) == (contract.OLDEST, contract.NEWEST)
    assert {row.since for row in contract.rows()} <= set(releases)


def test_rows_are_said_once(contract):
    rows = [(row.what, row.needed_for) for row in contract.rows()]
    assert len(rows) == len(set(rows))


# What differs between releases stays in host/.


def probes(tree: ast.Module) -> list[str]:
    """Places where a file finds out whether the host has something."""
    bound, found = host_imports(tree), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asks = (node.func.id == "hasattr") or (node.func.id == "getattr" and len(node.args) == 3)
            if asks and dotted(node.args[0], bound):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Try):
            imports = [inner for inner in node.body if host_imports(ast.Module([inner], []))]
            found += map(ast.unparse, imports)
        elif isinstance(node, ast.Import) and any(alias.name == "inspect" for alias in node.names):
            found.append(ast.unparse(node))
    return [*found, *(name for name in bound.values() if name.startswith("comfyui_version"))]


def names_that_some_release_lacks(contract) -> set[str]:
    names = set()
    for row in contract.rows():
        if row.optional:
            keywords = re.findall(r"(\w+)=", row.what)
            names |= set(keywords) or set(re.findall(r"'(\w+)'|(?:\.)(\w+)(?:\([^()]*\))?$", row.what)[0]) - {""}
    return names


def attributes_and_keys(tree: ast.Module) -> set[str]:
    """Attributes, keys in brackets, and texts that are arguments, as those of getattr are."""
    nodes = list(ast.walk(tree))
    texts = [argument for node in nodes if isinstance(node, ast.Call) for argument in node.args]
    texts += [node.slice for node in nodes if isinstance(node, ast.Subscript)]
    names = {text.value for text in texts if isinstance(text, ast.Constant) and isinstance(text.value, str)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("path", OUTSIDE_HOST, ids=identifier)
def test_only_host_asks_which_release_it_is(contract, path):
    tree = tree_of(path)
    lacked = names_that_some_release_lacks(contract)
    assert {"CoreModelPatcher", "multigpu_clones", "causal_anchor_index", "is_dynamic", "disable_dynamic"} <= lacked
    found = [*probes(tree), *sorted(lacked & attributes_and_keys(tree))]
    assert not found, f"{path}: move this to host/, as a small function with a name: {found}"


@pytest.mark.parametrize(
    "source",
    [
        "import comfy.ops\nhasattr(comfy.ops, 'x')",
        "from comfy import ops\ngetattr(ops, 'x', None)",
        "try:\n    import comfy.gone\nexcept ImportError:\n    pass",
        "try:\n    from comfy_extras import gone\nexcept Exception:\n    gone = None",
        "import inspect",
        "import comfyui_version",
    ],
)
def test_probes_are_seen(source):
    assert probes(ast.parse(source))


def test_other_questions_are_no_probes():
    assert not probes(ast.parse("import comfy.ops\nhasattr(control, 'x')\ngetattr(comfy.ops, name)"))


# The check.


STANDIN = """
import functools

def function(first, second, *, keyword=None):
    return {"a_key": first}

def decorated_by(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper

@decorated_by
def decorated(first, *, keyword=None):
    pass

def put_here_by_another_pack(*args, **kwargs):
    pass

def of_another_pack(a, b):
    pass

no_function = 1
written_in_c = zip

class Thing:
    annotated: int
    on_the_class = 1

    def __init__(self, size):
        self.set_at_first = size

    def method(self, value):
        return lambda: self.set_in_a_lambda

    @classmethod
    def of(cls, value):
        return cls(value)

class Inner(Thing):
    pass
"""


@pytest.fixture
def is_kept(pack, monkeypatch, tmp_path):
    """The check of a row, with a module `comfy.standin` of our own in the host."""
    path = tmp_path / "standin.py"
    path.write_text(STANDIN, encoding="utf-8")
    module = import_file("comfy.standin", path)
    monkeypatch.setattr("comfy.standin", module, raising=False)
    lacking = pack.submodule("host.lacking")
    lacking.found.cache_clear()
    yield lacking.is_kept
    lacking.found.cache_clear()
    del sys.modules["comfy.standin"]


@pytest.mark.parametrize(
    "what",
    [
        "comfy.standin",
        "comfy.standin.Thing.on_the_class",
        "comfy.standin.function(_, _)",
        "comfy.standin.function(first, second)",
        "comfy.standin.function(_, second, keyword=)",
        "comfy.standin.decorated(first, keyword=)",
        "comfy.standin.put_here_by_another_pack(first, second, keyword=)",
        "comfy.standin.of_another_pack(first, second)",
        "comfy.standin.written_in_c(_, _)",
        "comfy.standin.Thing(_)",
        "comfy.standin.Thing(size)",
        "comfy.standin.Thing.method(value)",
        "comfy.standin.Thing.of(value)",
        "comfy.standin.Thing().set_at_first",
        "comfy.standin.Thing().set_in_a_lambda",
        "comfy.standin.Thing().annotated",
        "comfy.standin.Inner().set_at_first",
        "'a_key' in comfy.standin",
        "server.not_there_without_a_server",
    ],
)
def test_what_is_there_is_found(is_kept, what, monkeypatch):
    monkeypatch.delitem(sys.modules, "server", raising=False)  # tests that run whole graphs import it
    assert is_kept(what)


@pytest.mark.parametrize(
    "what",
    [
        "comfy.no_such_module",
        "comfy.no_such_module.function(_)",
        "comfy.standin.Gone",
        "comfy.standin.Gone.method(_)",
        "comfy.standin.Gone().attribute",
        "comfy.standin.function.attribute",
        "comfy.standin.function(_)",  # one too few
        "comfy.standin.function(_, _, _)",  # one too many
        "comfy.standin.function(second, first)",  # another order
        "comfy.standin.function(_, first)",
        "comfy.standin.function(_, _, other=)",
        "comfy.standin.decorated(_, other=)",
        "comfy.standin.no_function()",
        "comfy.standin.Thing()",
        "comfy.standin.Thing.method()",
        "comfy.standin.Thing().gone",
        "'gone' in comfy.standin",
        "'a_key' in comfy.no_such_module",
    ],
)
def test_what_is_not_there_is_told(is_kept, what):
    assert not is_kept(what)
