"""ComfyUI releases that lack something: what needs it is left out, the rest works, and one line says so."""

import json
import re
import subprocess
from collections.abc import Callable

import pytest
from animatediff_dev_hosts import ROOT

# The host is imported once, as it is when it loads packs; the pack anew for each case, without some names of the host.
SCRIPT = """
import asyncio, functools, importlib, json, logging, sys
sys.path[:0] = [{dev!r}]
from pack import Pack, enter_host
enter_host({host!r}, ["--cpu", "--base-directory", {base!r}])
import utils.extra_config  # as the host does it: before another module `utils` is found
import torch, execution, server, nodes, comfy_extras.nodes_model_advanced, comfyui_version

lines = []
class Lines(logging.Handler):
    def emit(self, record):
        if "[AnimateDiff]" in record.getMessage():
            lines.append((record.levelname, record.getMessage()))
logging.getLogger().addHandler(Lines())

def parts(name):
    outer, _, last = name.rpartition(".")
    module, *inner = outer.split(".")
    while True:
        try:
            return functools.reduce(getattr, inner, sys.modules[module]), last
        except (KeyError, AttributeError):
            module, *inner = f"{{module}}.{{inner[0]}}", *inner[1:]

def run(names, version):
    lines.clear()
    comfyui_version.__version__ = version
    owners = [parts(name) for name in names]
    before = [vars(owner)[last] for owner, last in owners]
    for owner, last in owners:
        delattr(owner, last)
    try:
        pack = Pack()
        extension = asyncio.run(pack.module.comfy_entrypoint())
        ids = [node.GET_SCHEMA().node_id for node in asyncio.run(extension.get_node_list())]
        return {{"ids": ids, "lines": list(lines)}}
    finally:
        for (owner, last), value in zip(owners, before):
            setattr(owner, last, value)
        for name in [name for name in sys.modules if name.split(".")[0] == pack.name]:
            del sys.modules[name]

print("RESULT " + json.dumps([run(*case) for case in json.loads(sys.stdin.read())]))
"""

NEWER = "0.31.0"
TRAINING = {"AnimateDiffTrainMotionLoRA", "AnimateDiffTrainDomainAdapter", "AnimateDiffTrainMotionModule"}
OLD_LOADERS = {"ADE_AnimateDiffLoaderWithContext", "AnimateDiffLoaderV1", "ADE_AnimateDiffLoaderV1Advanced"}
EVOLVED = {"ADE_UseEvolvedSampling", "ADE_AnimateDiffLoaderGen1", *OLD_LOADERS}
VISUALIZE = {
    "ADE_VisualizeContextOptionsK",
    "ADE_VisualizeContextOptionsKAdv",
    "ADE_VisualizeContextOptionsSCustom",
    "AnimateDiffVisualizeFuseWeights",
}
SIGMA_SCHEDULES = {
    "ADE_SigmaSchedule",
    "ADE_RawSigmaSchedule",
    "ADE_SigmaScheduleWeightedAverage",
    "ADE_SigmaScheduleWeightedAverageInterp",
    "ADE_SigmaScheduleSplitAndCombine",
    "ADE_SigmaScheduleToSigmas",
}
SCHEDULED_PROMPTS = {"ADE_PromptScheduling", "ADE_PromptSchedulingLatents", "AnimateDiffPromptScheduling"}

# Names that the host lacks -> the nodes that are left out then, all of them.
CASES = {
    # found out by the contract: the modules of the pack can be loaded
    ("comfy.lora.calculate_weight",): TRAINING,
    ("comfy.utils.common_upscale",): set(),
    ("comfy.controlnet.ControlBase",): set(),
    ("comfy.sd.CLIP.add_hooks_to_dict",): SCHEDULED_PROMPTS,
    ("nodes.EmptyLatentImage",): {"ADE_EmptyLatentImageLarge"},
    ("folder_paths.get_temp_directory",): {"ADE_AnimateDiffCombine"},
    ("comfy.samplers.calculate_sigmas",): {"ADE_SigmaScheduleToSigmas"},
    ("comfy_extras.nodes_model_advanced.LCM",): set(),
    ("comfy.model_patcher.ModelPatcher.set_injections",): {*EVOLVED, "ADE_AnimateDiffUnload"},
    ("comfy.lora_convert.convert_lora",): {"AnimateDiffLoadDomainAdapter"},
    ("nodes.NODE_CLASS_MAPPINGS",): set(),
    # found out by an import: a family cannot be loaded
    ("comfy.ldm.modules.attention.CrossAttention",): TRAINING,
    ("comfy_execution.graph_utils.ExecutionBlocker",): {"AnimateDiffMetrics"},
    ("comfy.samplers.SCHEDULER_NAMES",): SIGMA_SCHEDULES,
    ("comfy.samplers.KSampler",): VISUALIZE,
    # found out when a node's inputs are made
    ("folder_paths.get_input_directory",): {"ADE_LoadCameraPoses"},
    ("comfy_api.latest.io.Vae",): {"CheckpointLoaderSimpleWithNoiseSelect"},
    ("comfy_api.latest.io.ClipVision",): {"AnimateDiffMetrics"},
    # several at once
    ("comfy.lora.calculate_weight", "comfy_execution.graph_utils.ExecutionBlocker", "nodes.EmptyLatentImage"): {
        *TRAINING,
        "AnimateDiffMetrics",
        "ADE_EmptyLatentImageLarge",
    },
}
VERSIONS = {  # release -> what its user is told to do
    "0.31.0": "Update ComfyUI-AnimateDiff-Next, or use ComfyUI 0.30.0.",
    "1.2": "Update ComfyUI-AnimateDiff-Next, or use ComfyUI 0.30.0.",
    "0.25.0": "Update ComfyUI and ComfyUI-AnimateDiff-Next: with ComfyUI 0.30.0 all of it is known to work.",
    "0.3.60": "Update ComfyUI: 0.3.75 is the oldest release that works.",
}


@pytest.fixture(scope="module")
def started(host, tmp_path_factory) -> Callable:
    """`started(names, version)`: ids of the nodes and lines of the log on a host without these names."""
    base = tmp_path_factory.mktemp("base")
    cases = [((), NEWER), *((names, NEWER) for names in CASES), (("comfy_api.latest.io.Schema",), NEWER)]
    cases += [(("nodes.EmptyLatentImage",), version) for version in VERSIONS if version != NEWER]
    script = SCRIPT.format(dev=str(ROOT / "dev"), host=str(host.path), base=str(base))
    result = subprocess.run(
        [host.python, "-c", script], input=json.dumps(cases), capture_output=True, text=True, cwd=base
    )
    [line] = [line for line in result.stdout.splitlines() if line.startswith("RESULT ")] or [result.stderr[-3000:]]
    results = dict(zip(cases, json.loads(line.removeprefix("RESULT ")), strict=True))
    return lambda names, version=NEWER: results[names, version]


@pytest.fixture(scope="module")
def all_ids(started) -> set[str]:
    return set(started(())["ids"])


def test_a_host_that_lacks_nothing_gets_all_nodes_and_no_line(started, all_ids):
    documented = set(re.findall(r"\| `(\w+)` \|", (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")))
    assert all_ids == documented
    assert not started(())["lines"]


@pytest.mark.parametrize("names", CASES, ids=" and ".join)
def test_only_what_lacks_something_is_left_out(started, all_ids, names):
    result = started(names)
    assert all_ids - set(result["ids"]) == CASES[names]
    [(level, line)] = result["lines"]
    assert level == "WARNING"
    assert "\n" not in line
    for name in names:
        assert name in line
    assert line.startswith(f"[AnimateDiff] This ComfyUI ({NEWER}) lacks ")
    assert "Left out: " in line or not CASES[names]
    assert line.endswith(VERSIONS[NEWER])


def test_the_line_names_nodes_as_users_know_them(started):
    [(_, line)] = started(("comfy.lora.calculate_weight",))["lines"]
    assert line == (
        "[AnimateDiff] This ComfyUI (0.31.0) lacks comfy.lora.calculate_weight (needed for training). "
        "Left out: Train MotionLoRA, Train Domain Adapter, Train Motion Module. "
        "Update ComfyUI-AnimateDiff-Next, or use ComfyUI 0.30.0."
    )


def test_without_what_every_node_needs_there_are_none(started):
    result = started(("comfy_api.latest.io.Schema",))
    assert not result["ids"]
    [(_, line)] = result["lines"]
    assert "Left out: all nodes of this pack." in line


@pytest.mark.parametrize("version", VERSIONS)
def test_what_to_do_depends_on_the_release(started, version):
    [(_, line)] = started(("nodes.EmptyLatentImage",), version)["lines"]
    assert f"({version})" in line
    assert line.endswith(VERSIONS[version])


# What goes wrong without the host's doing is no secret: the traceback is in the log.


@pytest.fixture
def startup(pack):
    return pack.submodule("host.startup").Startup()


def test_a_mistake_of_our_own_is_told_with_its_traceback(startup, caplog):
    with startup.part("the nodes of nodes/example.py"):
        raise TypeError("our mistake")
    [record] = caplog.records
    assert "the nodes of nodes/example.py" in record.getMessage()
    assert "our mistake" in caplog.text
    assert startup.left_out == ["the nodes of nodes/example.py"]
    assert not startup.lacks


def test_long_lists_are_cut(pack):
    startup = pack.submodule("host.startup")
    lacks = {f"comfy.gone{i}": ["training"] for i in range(10)}
    line = startup.sentence("0.31.0", lacks, [f"Node {i}" for i in range(40)])
    assert "comfy.gone5 and 4 more (needed for training)" in line
    assert "Node 5 and 34 more." in line
