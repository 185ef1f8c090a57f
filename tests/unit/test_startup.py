"""ComfyUI releases that lack something: what needs it is left out, the rest works, and one line says so."""

import json
import re
import subprocess
from collections.abc import Callable

import pytest
from animatediff_dev_hosts import ROOT

NEWER = "0.31.0"
TRAINING_OPTIONS = {
    "AnimateDiffTrainingOptions",
    "AnimateDiffTrainingCheckpoints",
    "AnimateDiffTrainingValidation",
    "AnimateDiffTrainingOnSeveralGPUs",
    "AnimateDiffTrainingPaths",
}
TRAINING = {
    "AnimateDiffTrainMotionLoRA",
    "AnimateDiffTrainDomainAdapter",
    "AnimateDiffTrainMotionModule",
    *TRAINING_OPTIONS,
}
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
ADAPTERS = {
    "ADE_LoadAnimateLCMI2VModel",
    "ADE_ApplyAnimateLCMI2VModel",
    "ADE_InjectI2VIntoAnimateDiffModel",
    "ADE_LoadAnimateDiffModelWithCameraCtrl",
    "ADE_ApplyAnimateDiffModelWithCameraCtrl",
    "ADE_CameraCtrlAnimateDiffKeyframe",
    "AnimateDiffLoadMotionModelWithMotionCtrl",
    "AnimateDiffApplyMotionCtrlCamera",
}
PICTURES = {
    "ADE_ApplyAnimateDiffModelWithPIA",
    "ADE_InjectPIAIntoAnimateDiffModel",
    "ADE_PIA_AnimateDiffKeyframe",
    "ADE_InputPIA_Multival",
    "ADE_InputPIA_PaperPresets",
    "AnimateDiffApplyFancyVideo",
}
VIDEO_FOLDER = {"AnimateDiffVideoFolderToClips"}
SPARSE_CTRL = {"AnimateDiffLoadSparseCtrl", "AnimateDiffApplySparseCtrl"}
POSE_FILES = {"ADE_LoadCameraPoses", "ADE_LoadCameraPosesFromPath"}
SCHEDULED_PROMPTS = {"ADE_PromptScheduling", "ADE_PromptSchedulingLatents", "AnimateDiffPromptScheduling"}

MERGING = {
    "AnimateDiffMergeMotionModels",
    "AnimateDiffAddMotionModelDifference",
    "AnimateDiffMergeMotionLoRAsIntoModel",
    "AnimateDiffExtractMotionLoRA",
    "AnimateDiffMergeMotionLoRAs",
}
# Names that the host lacks -> the nodes that are left out then, all of them.
CASES = {
    # found out by the contract: the modules of the pack can be loaded
    ("comfy.samplers.encode_model_conds",): TRAINING,
    ("comfy.lora.calculate_weight",): {*TRAINING, *MERGING},
    ("comfy.utils.common_upscale",): {*ADAPTERS, *PICTURES, *SPARSE_CTRL, "ADE_UpscaleAndVAEEncode"},
    ("comfy.controlnet.ControlBase",): SPARSE_CTRL,
    ("comfy.conds.CONDNoiseShape",): PICTURES,
    ("comfy.sd.CLIP.add_hooks_to_dict",): {*SCHEDULED_PROMPTS, *VIDEO_FOLDER},
    ("nodes.EmptyLatentImage",): {"ADE_EmptyLatentImageLarge"},
    ("folder_paths.get_temp_directory",): {*POSE_FILES, "ADE_AnimateDiffCombine"},
    ("comfy.samplers.calculate_sigmas",): {"ADE_SigmaScheduleToSigmas"},
    ("comfy_extras.nodes_model_advanced.LCM",): set(),
    ("comfy.model_patcher.ModelPatcher.set_injections",): {*EVOLVED, "ADE_AnimateDiffUnload"},
    ("comfy.lora_convert.convert_lora",): {"AnimateDiffLoadDomainAdapter"},
    ("nodes.NODE_CLASS_MAPPINGS",): {"AnimateDiffTrainingOnSeveralGPUs"},
    # found out by an import: a family cannot be loaded
    ("comfy.ldm.modules.attention.CrossAttention",): {*TRAINING, *VIDEO_FOLDER},
    ("comfy_execution.graph_utils.ExecutionBlocker",): {"AnimateDiffMetrics", "AnimateDiffTrainingOnSeveralGPUs"},
    ("comfy.samplers.SCHEDULER_NAMES",): SIGMA_SCHEDULES,
    ("comfy.samplers.KSampler",): VISUALIZE,
    # found out when a node's inputs are made
    ("folder_paths.get_input_directory",): {*POSE_FILES, *VIDEO_FOLDER},
    ("comfy_api.latest.io.Vae",): {
        "CheckpointLoaderSimpleWithNoiseSelect",
        "ADE_UpscaleAndVAEEncode",
        "ADE_NoisedImageInjection",
        "AnimateDiffApplySparseCtrl",
        *TRAINING_OPTIONS,
        *PICTURES,
        *VIDEO_FOLDER,
    },
    ("comfy_api.latest.io.ClipVision",): {"AnimateDiffMetrics"},
    ("comfy_api.latest.io.Sigmas",): {*VISUALIZE, *SIGMA_SCHEDULES},
    # several at once
    ("comfy.samplers.encode_model_conds", "comfy_execution.graph_utils.ExecutionBlocker", "nodes.EmptyLatentImage"): {
        *TRAINING,
        "AnimateDiffMetrics",
        "ADE_EmptyLatentImageLarge",
    },
}
OF_MOTION_MODELS = (
    "comfy.model_patcher.ModelPatcher",
    "comfy.ops.manual_cast",
    "comfy.cli_args.args",
    "comfy.model_base.ModelType",
    "comfy.ldm.modules.attention.attention_pytorch",
)
NOT_OF_MOTION_MODELS = {
    "ADE_ValueScheduling",
    "ADE_CameraPoseBasic",
    "ADE_MultivalDynamic",
    "ADE_AnimateDiffSamplingSettings",
    "ADE_StandardStaticContextOptions",
    "AnimateDiffMetrics",
}
VERSIONS = {  # release -> what its user is told to do
    "0.31.0": "Update ComfyUI-AnimateDiff-Next, or use ComfyUI 0.30.0.",
    "1.2": "Update ComfyUI-AnimateDiff-Next, or use ComfyUI 0.30.0.",
    "0.25.0": "Update ComfyUI and ComfyUI-AnimateDiff-Next: with ComfyUI 0.30.0 all of it is known to work.",
    "0.3.60": "Update ComfyUI: 0.3.75 is the oldest release that works.",
}


@pytest.fixture(scope="module")
def started(host, tmp_path_factory) -> Callable:
    """`started(names, version)`: ids of the nodes, and lines of the log, in a ComfyUI without these names."""
    base = tmp_path_factory.mktemp("base")
    cases = [((), NEWER), *((names, NEWER) for names in CASES), (("comfy_api.latest.io.Schema",), NEWER)]
    cases += [((name,), NEWER) for name in OF_MOTION_MODELS]
    cases += [(("nodes.EmptyLatentImage",), version) for version in VERSIONS if version != NEWER]
    result = subprocess.run(
        [host.python, ROOT / "dev" / "without.py", host.path, base],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        cwd=base,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    results = dict(zip(cases, json.loads(result.stdout.splitlines()[-1]), strict=True))
    return lambda names, version=NEWER: results[names, version]


@pytest.fixture(scope="module")
def all_ids(started) -> set[str]:
    return set(started(())[0])


def test_a_host_that_lacks_nothing_gets_all_nodes_and_no_line(started, all_ids):
    documented = set(re.findall(r"\| `(\w+)` \|", (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")))
    assert all_ids == documented
    assert not started(())[1]


@pytest.mark.parametrize("names", CASES, ids=" and ".join)
def test_only_what_lacks_something_is_left_out(started, all_ids, names):
    ids, [(level, line)] = started(names)
    assert all_ids - set(ids) == CASES[names]
    assert level == "WARNING"
    assert "\n" not in line
    for name in names:
        assert name in line
    assert line.startswith(f"[AnimateDiff] This ComfyUI ({NEWER}) lacks ")
    assert "Left out: " in line or not CASES[names]
    assert line.endswith(VERSIONS[NEWER])


def test_the_line_names_nodes_as_users_know_them(started):
    _, [(_, line)] = started(("comfy.samplers.encode_model_conds",))
    assert line == (
        "[AnimateDiff] This ComfyUI (0.31.0) lacks comfy.samplers.encode_model_conds (needed for training). "
        "Left out: Train MotionLoRA, Train Domain Adapter, Train Motion Module, Training Options, Training Checkpoints, "
        "Training Validation and 2 more. "
        "Update ComfyUI-AnimateDiff-Next, or use ComfyUI 0.30.0."
    )


def test_without_what_every_node_needs_there_are_none(started):
    ids, [(_, line)] = started(("comfy_api.latest.io.Schema",))
    assert not ids
    assert "Left out: all nodes of this pack." in line


@pytest.mark.parametrize("name", OF_MOTION_MODELS)
def test_nodes_without_motion_models_do_not_need_what_those_are_made_of(started, name):
    """The checks of inputs, which all nodes share, know motion models too."""
    ids, [(_, line)] = started((name,))
    assert set(ids) >= NOT_OF_MOTION_MODELS
    assert "ADE_UseEvolvedSampling" not in ids
    assert name in line


@pytest.mark.parametrize("version", VERSIONS)
def test_what_to_do_depends_on_the_release(started, version):
    _, [(_, line)] = started(("nodes.EmptyLatentImage",), version)
    assert f"({version})" in line
    assert line.endswith(VERSIONS[version])


# What goes wrong without the host's doing is no secret: the traceback is in the log.


@pytest.fixture
def startup(pack):
    return pack.submodule("host.startup").Startup()


def test_a_mistake_of_our_own_is_told_with_its_traceback(startup, caplog):
    startup.lacks = []
    with startup.part("the nodes of nodes/example.py"):
        raise TypeError("our mistake")
    [record] = caplog.records
    assert "the nodes of nodes/example.py" in record.getMessage()
    assert "our mistake" in caplog.text
    assert startup.left_out == ["the nodes of nodes/example.py"]


def test_long_lists_are_cut(pack):
    startup = pack.submodule("host.startup")
    row = pack.submodule("host.contract").Row
    lacks = [row(f"comfy.gone{i}", needed_for, "0.3.75") for i in range(10) for needed_for in ("training", "metrics")]
    line = startup.sentence("0.31.0", lacks, [f"Node {i}" for i in range(40)])
    assert "comfy.gone5 and 4 more (needed for training, metrics)." in line
    assert "Node 5 and 34 more." in line
