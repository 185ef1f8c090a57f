"""Graphs put together from nodes with good inputs: what is not given is filled in, and every output leads somewhere."""

from __future__ import annotations

from animatediff_faults_running import Graph, Link, node_classes, output
from animatediff_faults_stand_ins import FRAMES

# An input's good value, by its name, or for one node only.
GOOD: dict[str | tuple[str, str], object] = {
    "seed": 3,
    "steps": 2,
    "cfg": 4.0,
    "sampler_name": "euler",
    "scheduler": "normal",
    "denoise": 1.0,
    "frames": FRAMES,
    "context_length": 4,
    "context_overlap": 2,
    "view_length": 3,
    "view_overlap": 1,
    "model_name": "v2.safetensors",
    ("ADE_LoadAnimateLCMI2VModel", "model_name"): "i2v.safetensors",
    ("ADE_InjectI2VIntoAnimateDiffModel", "model_name"): "i2v.safetensors",
    ("ADE_InjectPIAIntoAnimateDiffModel", "model_name"): "pia.safetensors",
    "control_net_name": "sparse.safetensors",
    ("AnimateDiffApplySparseCtrl", "indexes"): ", ".join(map(str, range(FRAMES))),
    "camera_ctrl": "camera.safetensors",
    "motionctrl": "cmcm.safetensors",
    "ckpt_name": "tiny.safetensors",
    "lora_name": "adapter.safetensors",
    "name": "zoom.safetensors",
    "pose_filename": "poses.txt",
    ("ADE_LoadCameraPosesFromPath", "file_path"): "",
    "folder": "clips",
    "prompts": '"0": "a cat", "4": "a dog"',
    "values": '"0": 1.0, "4": 0.5',
    "value_key": "zoom",
    "float_val": 0.8,
    "rank": 2,
    "alpha": 2.0,
    "batch": 1,
    "gpus": 1,  # they share the batch
    "frame_length": 3,
    "width": 64,
    "height": 64,
    ("ADE_EmptyLatentImageLarge", "batch_size"): FRAMES,
    ("ADE_VisualizeContextOptionsKAdv", "end_step"): 2,
    "filename_prefix": "made",
    "lcm_original_timesteps": 50,
    ("TinyPictures", "seed"): 11,
    ("TinyMask", "frames"): FRAMES,
    ("TinyMask", "seed"): 12,
    ("TinyModel", "seed"): 0,
    ("OtherModel", "seed"): 0,
    ("TinyLatent", "seed"): 0,
    ("TinyControlNet", "seed"): 13,
    ("TinyCond", "seed"): 1,
    ("KSamplerAdvanced", "noise_seed"): 3,
    "add_noise": "enable",
    "start_at_step": 0,
    "end_at_step": 2,
    "return_with_leftover_noise": "disable",
    ("ControlNetApplyAdvanced", "end_percent"): 1.0,
}
# What is linked to a socket of a type, where nothing else is said: the node, and which of its outputs.
SOURCES: dict[str, tuple[str, int]] = {
    "MODEL": ("TinyModel", 0),
    "CLIP": ("TinyClip", 0),
    "VAE": ("TinyVae", 0),
    "CONDITIONING": ("TinyCond", 0),
    "LATENT": ("TinyLatent", 0),
    "IMAGE": ("TinyPictures", 0),
    "MASK": ("TinyMask", 0),
    "CONTROL_NET": ("TinyControlNet", 0),
    "MOTION_MODEL_ADE": ("ADE_LoadAnimateDiffModel", 0),
    "M_MODELS": ("ADE_ApplyAnimateDiffModelSimple", 0),
    "MOTION_LORA": ("ADE_AnimateDiffLoRALoader", 0),
    "LORA_MODEL": ("AnimateDiffTrainDomainAdapter", 0),
    "MULTIVAL": ("ADE_MultivalDynamic", 0),
    "FLOATS": ("ADE_ValueScheduling", 1),
    "VIEW_OPTS": ("ADE_StandardStaticViewOptions", 0),
    "CONTEXT_OPTIONS": ("ADE_StandardStaticContextOptions", 0),
    "HOOKS": ("ADE_RegisterLoraHookModelOnly", 1),
    "HOOK_KEYFRAMES": ("ADE_LoraHookKeyframe", 0),
    "SIGMA_SCHEDULE": ("ADE_SigmaSchedule", 0),
    "SIGMAS": ("ADE_SigmaScheduleToSigmas", 0),
    "CAMERACTRL_POSES": ("ADE_CameraPoseBasic", 0),
    "LOAD3D_CAMERA": ("TinyViewer", 0),
    "WAN_CAMERA_EMBEDDING": ("TinyRays", 0),
    "MOTION_PATH": ("AnimateDiffMotionPath", 0),
    "TRACKS": ("TinyTracks", 0),
    "FLOAT": ("ADE_ValueScheduling", 0),  # of inputs without a widget
    # of one node
    "ADE_ApplyAnimateLCMI2VModel.motion_model": ("ADE_LoadAnimateLCMI2VModel", 0),
    "ADE_ApplyAnimateDiffModelWithCameraCtrl.motion_model": ("ADE_LoadAnimateDiffModelWithCameraCtrl", 0),
    "AnimateDiffApplyMotionCtrlCamera.motion_model": ("AnimateDiffLoadMotionModelWithMotionCtrl", 0),
    "AnimateDiffApplySparseCtrl.control_net": ("AnimateDiffLoadSparseCtrl", 0),
    "AnimateDiffShowSettings.settings": ("ADE_StandardStaticContextOptions", 0),
}
# Nodes that take the motion model of a file of their own.
# They need a MODEL with a motion model.
ANIMATED = (
    "AnimateDiffTrainMotionLoRA",
    "AnimateDiffMotionClone",
    "AnimateDiffReuseMotion",
    "AnimateDiffFollowPath",
    "AnimateDiffMotionAmount",
)
FILES = {"ADE_ApplyAnimateDiffModelWithPIA": "pia.safetensors", "AnimateDiffApplyFancyVideo": "fancy.safetensors"}
# Where an output of a type goes, on its way to a sampler: the node, and which of its inputs.
CONSUMERS: dict[str, tuple[str, str]] = {
    "MOTION_MODEL_ADE": ("ADE_ApplyAnimateDiffModelSimple", "motion_model"),
    "MOTION_LORA": ("ADE_ApplyAnimateDiffModelSimple", "motion_lora"),
    "MULTIVAL": ("ADE_ApplyAnimateDiffModelSimple", "scale_multival"),
    "AD_KEYFRAMES": ("ADE_ApplyAnimateDiffModelSimple", "ad_keyframes"),
    "PER_BLOCK": ("ADE_ApplyAnimateDiffModelSimple", "per_block"),
    "AD_BLOCK": ("ADE_PerBlockHighLevel", "down"),
    "AD_SETTINGS": ("ADE_LoadAnimateDiffModel", "ad_settings"),
    "PE_ADJUST": ("ADE_AnimateDiffSettings", "pe_adjust"),
    "WEIGHT_ADJUST": ("ADE_AnimateDiffSettings", "weight_adjust"),
    "M_MODELS": ("ADE_UseEvolvedSampling", "m_models"),
    "CONTEXT_OPTIONS": ("ADE_UseEvolvedSampling", "context_options"),
    "VIEW_OPTS": ("ADE_ViewsOnlyContextOptions", "view_opts_req"),
    "CONTEXT_EXTRAS": ("ADE_ContextExtras_Set", "context_extras"),
    "CONTEXTREF_MODE": ("ADE_ContextExtras_ContextRef", "contextref_mode"),
    "CONTEXTREF_TUNE": ("ADE_ContextExtras_ContextRef", "contextref_tune"),
    "CONTEXTREF_KEYFRAME": ("ADE_ContextExtras_ContextRef", "contextref_kf"),
    "NAIVEREUSE_KEYFRAME": ("ADE_ContextExtras_NaiveReuse", "naivereuse_kf"),
    "SAMPLE_SETTINGS": ("ADE_UseEvolvedSampling", "sample_settings"),
    "NOISE_LAYERS": ("ADE_AnimateDiffSamplingSettings", "noise_layers"),
    "ITERATION_OPTS": ("ADE_AnimateDiffSamplingSettings", "iteration_opts"),
    "CUSTOM_CFG": ("ADE_AnimateDiffSamplingSettings", "custom_cfg"),
    "SIGMA_SCHEDULE": ("ADE_AnimateDiffSamplingSettings", "sigma_schedule"),
    "ANCESTRAL_OPTS": ("ADE_AnimateDiffSamplingSettings", "ancestral_opts"),
    "CFG_EXTRAS": ("ADE_CustomCFGSimple", "cfg_extras"),
    "IMAGE_INJECT": ("ADE_AnimateDiffSamplingSettings", "image_inject"),
    "IMAGE_INJECT_OPTIONS": ("ADE_NoisedImageInjection", "img_inject_opts"),
    "HOOKS": ("ADE_AttachLoraHookToConditioning", "lora_hook"),
    "HOOK_KEYFRAMES": ("ADE_SetLoraHookKeyframe", "hook_kf"),
    "TIMESTEPS_RANGE": ("ADE_ConditioningSetMask", "opt_timesteps"),
    "VALUES_REPLACE": ("ADE_PromptScheduling", "values_replace"),
    "AD_TRAINING_OPTIONS": ("AnimateDiffTrainMotionLoRA", "options"),
    "FLOATS": ("ADE_MultivalDynamicFloats", "floats"),
    "MOTION_PATH": ("AnimateDiffFollowPath", "path"),
    "MODEL": ("KSampler", "model"),
    "CONDITIONING": ("KSampler", "positive"),
}
# Optional sockets that are linked all the same.
ALWAYS = {
    "ADE_UseEvolvedSampling": {"m_models": "M_MODELS"},
    "KSampler": {"model": "MODEL"},
    "AnimateDiffMotionPathFromClip": {"images": "IMAGE"},
    **{f"ADE_CombineLoraHooks{count}": {"lora_hook_A": "HOOKS"} for count in ("", "Four", "Eight")},
}


class Parts(Graph):
    """A Graph that fills in required inputs. ``None`` leaves an input out.

    ``salt``: a number that makes the host run a sampler anew though nothing that it reads has changed.
    """

    def __init__(self, salt: int = 0):
        super().__init__()
        self.salt = salt

    def __call__(self, class_type: str, **inputs) -> Link:
        required = node_classes()[class_type].INPUT_TYPES().get("required", {})
        missing = [name for name in required if name not in inputs]
        inputs |= {name: self.good(class_type, name, required[name]) for name in missing}
        for name, kind in ALWAYS.get(class_type, {}).items():
            if name not in inputs:
                inputs[name] = self.source(kind)
        if class_type.startswith(("KSampler", "SamplerCustom")):
            inputs.setdefault("salt", self.salt)
        return super().__call__(class_type, **{name: value for name, value in inputs.items() if value is not None})

    def good(self, class_type: str, name: str, declared: tuple):
        kind, options = declared[0], declared[1] if len(declared) > 1 else {}
        for key in ((class_type, name), name):
            if key in GOOD:
                return GOOD[key]
        if f"{class_type}.{name}" in SOURCES:
            return self.source(f"{class_type}.{name}")
        if name == "motion_model" and class_type in FILES:
            return self("ADE_LoadAnimateDiffModel", model_name=FILES[class_type])
        if name == "negative":
            return self("TinyCond", seed=2)
        if name == "model" and class_type in ANIMATED:
            return self.animate()
        if (class_type, name) == ("AnimateDiffExtractMotionLoRA", "goal"):
            return self("AnimateDiffMergeMotionLoRAsIntoModel")  # not the same as motion_model
        if (
            isinstance(kind, str)
            and kind in SOURCES
            and ("default" not in options or options.get("forceInput") or kind == "FLOATS")
        ):
            return self.source(kind)
        if "default" in options:
            return options["default"]
        return (kind if isinstance(kind, list) else options["options"])[0]

    def source(self, kind: str) -> Link:
        node, index = SOURCES[kind]
        return output(self(node), index)

    def keep(self, link: Link, name: str = "value") -> None:
        super().__call__("Keep", name=name, value=link)

    def sample(self, model: Link | None = None, **inputs) -> None:
        """Sample a clip and keep it."""
        self.keep(self("KSampler", model=model or self.source("MODEL"), **inputs))

    def animate(self, model: Link | None = None, **inputs) -> Link:
        """A MODEL with the motion model v2, or what ``m_models`` says."""
        return self("ADE_UseEvolvedSampling", model=model or self.source("MODEL"), **inputs)

    def apply(self, model_name: str = "v2.safetensors", **inputs) -> Link:
        """M_MODELS of one motion model, with ``inputs`` of its Apply node."""
        motion_model = self("ADE_LoadAnimateDiffModel", model_name=model_name)
        ranged = {"start_percent", "end_percent", "prev_m_models"} & inputs.keys()
        kind = "ADE_ApplyAnimateDiffModel" if ranged else "ADE_ApplyAnimateDiffModelSimple"
        return self(kind, motion_model=motion_model, **inputs)

    def finish(self, link: Link, kind: str) -> None:
        """Lead an output of type ``kind`` through a sampler if it can be, and keep what comes out."""
        while kind in CONSUMERS:
            node, name = CONSUMERS[kind]
            link = self(node, **{name: link})
            kind = node_classes()[node].RETURN_TYPES[0]
        self.keep(link)


def whole(node_id: str, salt: int = 0, **inputs) -> Parts:
    """A graph around one node: good inputs but for ``inputs``, and its first output led through a sampler."""
    graph = Parts(salt)
    link = graph(node_id, **{name: value(graph) if callable(value) else value for name, value in inputs.items()})
    kinds = node_classes()[node_id].RETURN_TYPES
    if kinds:
        graph.finish(link, kinds[0])
    return graph
