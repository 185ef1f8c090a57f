"""The nodes: interface, validation, one call into the layers below.

A file with a list NODES is a family of nodes. One that this host cannot run is left out, and the others work.
"""

from importlib import import_module
from pkgutil import walk_packages

from ..host.registry import warn_about_other_packs
from ..host.startup import Startup

# Menus show families in this order; those that are not named here come behind.
ORDER = (
    "motion_models.apply",
    "sampling.evolved",
    "sampling.context",
    "sampling.window_batch",
    "sampling.context_extras",
    "sampling.seamless_loop",
    "sampling.visualize",
    "motion_models.settings",
    "motion_models.strengths",
    "motion_models.motion_strength",
    "motion_models.keyframes",
    "sampling.sample_settings",
    "sampling.image_injection",
    "sampling.guidance",
    "sampling.sigma_schedules",
    "sampling.in_between",
    "sampling.unictrl",
    "sampling.text2video_zero",
    "sampling.motion_clone",
    "lora",
    "merging",
    "scheduling",
    "motion_models.animatelcm",
    "motion_models.pia",
    "motion_models.fancy_video",
    "motion_models.sparse_ctrl",
    "motion_models.camera_ctrl",
    "motion_models.motion_ctrl",
    "motion_models.camera",
    "extras",
    "show",
    "metrics",
    "dataset",
    "training",
    "training_options",
    "deprecated.loaders",
    "deprecated.hooks",
    "deprecated.conditioning",
)
OLD_LOADERS = ("ADE_AnimateDiffLoaderWithContext", "AnimateDiffLoaderV1", "ADE_AnimateDiffLoaderV1Advanced")
# What the host contract says things are needed for, and the families, or single nodes by their ids, that cannot do
# without. Of what is not here, nodes need a part only in some uses.
NEEDED_BY = {
    "motion models": (
        "motion_models.apply",
        "motion_models.animatelcm",
        "sampling.evolved",
        "training",
        "merging",
        "AnimateDiffSaveMotionModel",
        *OLD_LOADERS,
    ),
    "adapters of motion models": ("motion_models.animatelcm", "motion_models.camera_ctrl", "motion_models.motion_ctrl"),
    "SparseCtrl": ("motion_models.sparse_ctrl",),
    "motion models with an image input": ("motion_models.pia", "motion_models.fancy_video"),
    "MotionLoRAs": ("ADE_AnimateDiffLoRALoader",),
    "domain adapters": ("AnimateDiffLoadDomainAdapter",),
    "merging": ("merging",),
    "sampling with motion models": ("sampling.evolved", "ADE_AnimateDiffUnload", *OLD_LOADERS),
    "context options": (
        "sampling.context",
        "sampling.window_batch",
        "sampling.context_extras",
        "sampling.seamless_loop",
    ),
    "context windows in one batch": ("sampling.window_batch",),
    "ContextRef": ("sampling.context_extras",),
    "custom CFG and its extras": ("sampling.guidance",),
    "UniCtrl and Text2Video-Zero": ("sampling.unictrl", "sampling.text2video_zero"),
    "Motion Clone": ("sampling.motion_clone",),
    "Follow Path": ("AnimateDiffFollowPath",),
    "Ancestral Options": ("ADE_AncestralOptions",),
    "beta schedules": (
        "sampling.evolved",
        "sampling.sigma_schedules",
        "CheckpointLoaderSimpleWithNoiseSelect",
        "AnimateDiffTrainMotionModule",
        *OLD_LOADERS,
    ),
    "Sigma Schedule To Sigmas": ("ADE_SigmaScheduleToSigmas",),
    "pictures of context windows": ("sampling.visualize",),
    "Show Settings": ("show",),
    "prompt scheduling": ("ADE_PromptScheduling", "ADE_PromptSchedulingLatents", "AnimateDiffPromptScheduling"),
    "training": ("training", "training_options"),
    "training by command": ("AnimateDiffTrainingOnSeveralGPUs",),
    "clips of a folder of videos": ("dataset",),
    "Animation Metrics": ("metrics",),
    "AnimateDiff Combine": ("ADE_AnimateDiffCombine",),
    "saving motion models and LoRAs": (
        "AnimateDiffSaveMotionLoRA",
        "AnimateDiffSaveDomainAdapter",
        "AnimateDiffSaveMotionModel",
    ),
    "Load Checkpoint with Noise Schedule": ("CheckpointLoaderSimpleWithNoiseSelect",),
    "Empty Latent Image (Big Batch)": ("ADE_EmptyLatentImageLarge",),
    "camera poses from files": ("ADE_LoadCameraPoses", "ADE_LoadCameraPosesFromPath"),
    "deprecated LoRA hooks": ("deprecated.hooks", "deprecated.conditioning"),
    "image injection": ("sampling.image_injection",),
    "Scale Ref Image and VAE Encode": ("ADE_UpscaleAndVAEEncode",),
}


def _families(startup: Startup) -> dict[str, list[type]]:
    """The nodes of each family that can be loaded, by its name, such as ``sampling.context``."""
    prefix = f"{__name__}."
    found = [name.removeprefix(prefix) for _, name, package in walk_packages(__path__, prefix) if not package]
    families = {}
    for name in (*ORDER, *(name for name in found if name not in ORDER)):
        with startup.part(f"the nodes of nodes/{name.replace('.', '/')}.py"):
            module = import_module(f"{prefix}{name}")
            families[name] = getattr(module, "NODES", [])
    return families


STARTUP = Startup()
FAMILIES = _families(STARTUP)
NODES = [node for nodes in FAMILIES.values() for node in nodes]


def served() -> list[type]:
    """NODES without those that this host cannot run. What is left out, and why, is told in one line of the log."""
    lacking = {row.needed_for for row in STARTUP.lacks}
    broken = {name for needed_for in lacking for name in NEEDED_BY.get(needed_for, ())}
    usable, ids = [], []
    for family, nodes in FAMILIES.items():
        for node in () if "every node" in lacking else nodes:
            with STARTUP.part(node.__name__):
                schema = node.GET_SCHEMA()
                if {family, schema.node_id} & broken:
                    STARTUP.left_out.append(schema.display_name)
                else:
                    usable.append(node)
                    ids.append(schema.node_id)
    if not usable:
        STARTUP.left_out[:] = ["all nodes of this pack"]
    with STARTUP.part("the warning about other packs with the same nodes"):
        warn_about_other_packs(ids)
    STARTUP.tell()
    return usable
