"""Every supported ComfyUI release keeps the host contract, and the pack's tables of the host are those of the release."""

import json
import re
import subprocess

import pytest
from animatediff_dev_hosts import RELEASES, ROOT
from animatediff_dev_pack import import_file

# The host is imported as it is when it loads packs.
SCRIPT = """
import asyncio, inspect, json, logging, sys, time
sys.path[:0] = [{dev!r}]
from pack import Pack, enter_host
enter_host({host!r}, ["--cpu", "--base-directory", {base!r}])
import utils.extra_config  # as the host does it: before another module `utils` is found
import torch, execution, server, nodes

class Lines(logging.Handler):
    lines = []
    def emit(self, record):
        if "[AnimateDiff]" in record.getMessage():
            self.lines.append(record.getMessage())
logging.getLogger().addHandler(Lines())

pack = Pack()
lacking = pack.submodule("host.lacking")
imported = set(sys.modules)
start = time.perf_counter()
lacking.lacking()
milliseconds = (time.perf_counter() - start) * 1000
extension = asyncio.run(pack.module.comfy_entrypoint())
ids = [node.GET_SCHEMA().node_id for node in asyncio.run(extension.get_node_list())]

def words(function, depth=2):
    function = inspect.unwrap(function)
    found = set(function.__code__.co_names)
    for name in tuple(found) if depth else ():
        called = function.__globals__.get(name)
        if inspect.isfunction(called) and called.__module__ == function.__module__:
            found |= words(called, depth - 1)
    return found

from comfy.k_diffusion import sampling
samplers = {{name: words(value) for name, value in vars(sampling).items()
             if name.startswith("sample_") and "noise_sampler" in inspect.signature(value).parameters}}

print("RESULT " + json.dumps({{
    "rows": [[*row, lacking.is_kept(row.what)] for row in lacking.rows()],
    "ids": ids,
    "lines": Lines.lines,
    "imported": sorted(set(sys.modules) - imported),
    "milliseconds": milliseconds,
    "with_default_noise": sorted(name for name, found in samplers.items()
                                 if "default_noise_sampler" in found and "BrownianTreeNoiseSampler" not in found),
    "without": sorted(name for name, found in samplers.items() if "BrownianTreeNoiseSampler" in found),
    "our_table": sorted(pack.submodule("host.samplers").WITH_DEFAULT_NOISE),
}}))
"""


@pytest.fixture(scope="module")
def results() -> dict:
    return {}


@pytest.fixture
def result(any_host, results, tmp_path) -> dict:
    if any_host.version not in results:
        script = SCRIPT.format(dev=str(ROOT / "dev"), host=str(any_host.path), base=str(tmp_path))
        run = subprocess.run([any_host.python, "-c", script], capture_output=True, text=True, cwd=tmp_path)
        lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
        assert lines, run.stderr[-3000:]
        results[any_host.version] = json.loads(lines[0].removeprefix("RESULT "))
    return results[any_host.version]


def test_the_release_keeps_the_contract(any_host, result):
    """Each row from its release on, and not before: a row that says when something began is right about that."""
    assert len(result["rows"]) > 250
    releases = list(RELEASES)  # the newest first
    wrong = []
    for what, needed_for, since, kept in result["rows"]:
        if any_host.version in releases:
            expected = releases.index(any_host.version) <= releases.index(since)
        else:  # a user's own ComfyUI: what began between two of ours may be there or not
            expected = kept or since == releases[-1]
        if kept != expected:
            wrong.append(f"{what} (needed for {needed_for}) {'lacks' if expected else 'is there already'}")
    assert not wrong, f"ComfyUI {any_host.version}: {wrong}"
    print(f"ComfyUI {any_host.version}: {len(result['rows'])} rows in {result['milliseconds']:.0f} ms")


def test_it_serves_all_nodes_and_says_nothing(any_host, result, results):
    assert len(result["ids"]) > 100
    assert result["lines"] == []
    assert result["ids"] == results[next(iter(results))]["ids"]


def test_the_check_imports_nothing_heavy(result):
    """Only the file of the host's extra nodes that LCM schedules are made with: the host loads such files by path."""
    assert set(result["imported"]) <= {"comfy_extras", "comfy_extras.nodes_model_advanced"}


def test_samplers_with_default_noise_are_those_of_the_release(any_host, result):
    """The table holds every sampler that the code says draws from the default noise sampler, and none that does not."""
    assert len(result["with_default_noise"]) > 15
    assert set(result["with_default_noise"]) <= set(result["our_table"])
    assert not set(result["without"]) & set(result["our_table"])
    if any_host.version == next(iter(RELEASES)):  # the newest: later ones only add samplers
        assert result["with_default_noise"] == result["our_table"]


def test_whatever_a_release_lacks_the_pack_starts_and_names_it(host, tmp_path):
    """Each name of the contract is taken away once, and each class around one."""
    contract = import_file("animatediff_contract", ROOT / "host" / "contract.py")
    rows = [row.what for row in contract.rows() if not row.optional and "' in " not in row.what]
    names = sorted({re.match(r"[\w.]+", what)[0] for what in rows} - {"comfy_api.latest.ComfyExtension"})
    names = sorted({*names, *(name.rpartition(".")[0] for name in names)})
    names = [name for name in names if "." in name and name != "comfy_api.latest.io"]
    run = subprocess.run(
        [host.python, ROOT / "dev" / "without.py", host.path, tmp_path],
        input=json.dumps([[[name], "0.31.0"] for name in names]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    results = {
        name: result
        for name, result in zip(names, json.loads(run.stdout.splitlines()[-1]), strict=True)
        if result is not None
    }
    assert len(results) > 130
    for name, (ids, lines) in results.items():
        [(level, line)] = lines
        assert level == "WARNING"
        assert re.search(rf"{re.escape(name)}\b", line)
        assert ids or name.startswith("comfy_api."), name  # without a use of the host's nodes there are none of ours
    print(f"{len(results)} names taken away one by one")
