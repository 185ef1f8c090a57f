"""API prompts, of the kind that users queue: training through the pack's nodes, and sampling what was trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .worlds import LANDSCAPES, SCENES

CHECKPOINT = "toyworld.safetensors"
PERSONALISED = "toyworld-personalised.safetensors"
MOTION_MODEL = "toyworld.safetensors"
NO_ADAPTER_MODEL = "toyworld-no-adapter.safetensors"
ADAPTER = "toyworld-adapter.safetensors"
FIRST_ADAPTER = "toyworld-first-adapter.safetensors"
LANDSCAPE_FILE = f"{LANDSCAPES.title}.safetensors"  # of the larger world, checkpoint and motion model
LANDSCAPE_RESTYLED = f"{LANDSCAPES.title}-personalised.safetensors"
# MotionLoRAs of it: the camera goes to the left, so what it sees to the right.
PAN_LEFT, ZOOM_IN = f"{LANDSCAPES.title}-pan-left", f"{LANDSCAPES.title}-zoom-in"
SAMPLING = {"steps": 12, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
# Of Motion Clone, whose gradient changes too much from step to step for 12 of them.
CLONING = {"strength": 800.0, "start_percent": 0.0, "end_percent": 0.6, "up_block": 1}
CLONING_STEPS = 24
# Windows of long clips, as their nodes have them.
WINDOWS = {"context_length": 16, "context_overlap": 8, "fuse_method": "pyramid"}
SHARED = {
    "schedule": "standard_static",
    "cut_off": 0.25,
    "one_motion_end_percent": 1.0,
    "frames_at_once": 0,
    "skips_in_ram": False,
}
CONTEXTS = {
    "static": ("ADE_StandardStaticContextOptions", WINDOWS),
    "shared": ("AnimateDiffSharedWindowsContextOptions", {**WINDOWS, **SHARED, "one_motion": 0.0}),
    "one motion": ("AnimateDiffSharedWindowsContextOptions", {**WINDOWS, **SHARED, "one_motion": 1.0}),
}
# Follow Path as its node has it, and boxes a little larger than the shapes.
FOLLOW = {"noise": 0.0, "attention": 30.0, "end_percent": 0.7}
BOXES = {"box_width": 0.36, "box_height": 0.36, "ease": "linear"}
# With the MotionLoRA that was trained along paths noise goes along as well.
PATH_LORA = "toyworld-path"
# Of a clip. At strength 1 shapes break in the later steps, whose noise levels it was not trained on; chosen on other seeds.
TRAINED: dict[str, Any] = {"loras": (PATH_LORA,), "lora_strength": 0.5}
FOLLOW_TRAINED = {**FOLLOW, "noise": 1.0}
CAMERA = {"ease": "linear", "noise": 1.0}  # Camera Path as its node has it
FROM_CLIP = {"margin": 0.1, "frames": 0}  # Motion Path from Clip as its node has it
REUSE = {"start_percent": 0.1, "end_percent": 0.9}  # as its node has them
LOOP = {"shared_noise": 0.5}  # as its node has it
# Prompt travel: Prompt Scheduling (Even) as its node has it, in windows as long-clips.md recommends them for prompt travel.
TRAVEL = {"interpolation": "linear", "tensor_interp": "lerp", "transition": 8}
MOTION_BETAS = "sqrt_linear (AnimateDiff)"


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


@dataclass(frozen=True)
class Clip:
    """What to sample.

    ``zero``: how many pixels a frame Text2Video-Zero moves it to the right, ``zero_delta_t``: how much freedom it leaves; None
    without that node. ``unictrl``, ``loop``: with UniCtrl, with Seamless Loop. ``windows``: those of a long clip, of CONTEXTS.
    ``cloned``: the video in the input folder whose motion Motion Clone takes. ``reuse``: in one of how many steps Reuse Motion
    computes the motion model; 0: without that node. ``path``: the places of Motion Path that Follow Path gets; ``camera``: the moves
    of Camera Path that it gets instead; ``followed``: the video whose path Motion Path from Clip finds for it. ``travel``: the
    prompts of Prompt Scheduling, in place of the caption; ``keep_apart``: its option. ``scale``: a scale_multival; ``amount``: that
    of Motion Amount; None without that node. ``size``: of the picture; ``cfg``: guidance.
    """

    caption: str
    seed: int
    checkpoint: str = CHECKPOINT
    motion: str | None = MOTION_MODEL
    loras: tuple[str, ...] = ()
    lora_strength: float = 1.0
    adapter: float = 0.0
    frames: int = SCENES.frames
    zero: float | None = None
    zero_delta_t: float = 0.06
    unictrl: bool = False
    loop: bool = False
    windows: str | None = None
    cloned: str | None = None
    reuse: int = 0
    path: str | None = None
    camera: str | None = None
    followed: str | None = None
    travel: str | None = None
    keep_apart: float = 0.0
    scale: float = 1.0
    amount: float | None = None
    size: int = SCENES.size
    cfg: float = SCENES.cfg


def landscape(
    caption: str,
    seed: int,
    motion: str | None = LANDSCAPE_FILE,
    checkpoint: str = LANDSCAPE_FILE,
    loras: tuple[str, ...] = (),
) -> Clip:
    """A clip of the larger world."""
    return Clip(caption, seed, checkpoint, motion, loras, size=LANDSCAPES.size, cfg=LANDSCAPES.cfg)


def path_node(clip: Clip) -> tuple[str, dict] | None:
    """What makes the path for Follow Path, and its inputs but for pictures; None without Follow Path."""
    if clip.path is not None:
        return "AnimateDiffMotionPath", {"places": clip.path, **BOXES}
    if clip.camera is not None:
        return "AnimateDiffCameraPath", {"moves": clip.camera, **CAMERA}
    if clip.followed is not None:
        return "AnimateDiffMotionPathFromClip", FROM_CLIP
    return None


def follow(clip: Clip) -> dict:
    """The numbers of Follow Path."""
    return FOLLOW_TRAINED if PATH_LORA in clip.loras else FOLLOW


def steps(clip: Clip) -> int:
    return SAMPLING["steps"] if clip.cloned is None else CLONING_STEPS


def sampling_prompt(clip: Clip) -> dict[str, dict]:
    """The API prompt of one clip."""
    nodes = {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=clip.checkpoint),
        "positive": node("CLIPTextEncode", text=clip.caption, clip=["checkpoint", 1]),
        "negative": node("CLIPTextEncode", text="", clip=["checkpoint", 1]),
        "latent": node("EmptyLatentImage", width=clip.size, height=clip.size, batch_size=clip.frames),
    }
    if clip.travel is not None:
        asked = {"prompts": clip.travel, "max_length": clip.frames, "keep_apart": clip.keep_apart, **TRAVEL}
        nodes["positive"] = node("AnimateDiffPromptScheduling", clip=["checkpoint", 1], **asked)
    model = ["checkpoint", 0]
    if clip.adapter:
        nodes["adapter"] = node("AnimateDiffLoadDomainAdapter", model=model, lora_name=ADAPTER, scale=clip.adapter)
        model = ["adapter", 0]
    if clip.motion:
        lora = {}
        for i, name in enumerate(clip.loras):
            nodes[f"lora{i}"] = node(
                "ADE_AnimateDiffLoRALoader", name=f"{name}.safetensors", strength=clip.lora_strength, **lora
            )
            lora = {"prev_motion_lora": [f"lora{i}", 0]}
        last = {"motion_lora": lora["prev_motion_lora"]} if lora else {}
        if clip.scale != 1.0:
            nodes["scale"] = node("ADE_MultivalDynamic", float_val=clip.scale)
            last["scale_multival"] = ["scale", 0]
        around = {}
        if clip.loop:
            nodes["loop"] = node("AnimateDiffSeamlessLoop", context_length=16, context_overlap=4, **LOOP)
            around = {"context_options": ["loop", 0], "sample_settings": ["loop", 1]}
        if clip.windows is not None:
            context, options = CONTEXTS[clip.windows]
            nodes["windows"] = node(context, **options)
            around = {"context_options": ["windows", 0]}
        nodes["motion"] = node("ADE_LoadAnimateDiffModel", model_name=clip.motion)
        nodes["apply"] = node("ADE_ApplyAnimateDiffModelSimple", motion_model=["motion", 0], **last)
        nodes["animated"] = node(
            "ADE_UseEvolvedSampling", model=model, m_models=["apply", 0], beta_schedule="autoselect", **around
        )
        model = ["animated", 0]
    if clip.unictrl:
        whole = {"motion_end_percent": 1.0, "start_percent": 0.0, "end_percent": 1.0}
        nodes["unictrl"] = node("AnimateDiffUniCtrl", model=model, strength=1.0, **whole)
        model = ["unictrl", 0]
    if clip.zero is not None:
        nodes["zero"] = node(
            "AnimateDiffText2VideoZero",
            model=model,
            motion_x=clip.zero,
            motion_y=0.0,
            delta_t=clip.zero_delta_t,
            attention=1.0,
        )
        model = ["zero", 0]
    if clip.reuse:
        nodes["reuse"] = node("AnimateDiffReuseMotion", model=model, every=clip.reuse, **REUSE)
        model = ["reuse", 0]
    if (video := clip.cloned or clip.followed) is not None:
        nodes["video"] = node("LoadVideo", file=video)
        nodes["video_frames"] = node("GetVideoComponents", video=["video", 0])
    if clip.cloned is not None:
        nodes["reference"] = node("VAEEncode", pixels=["video_frames", 0], vae=["checkpoint", 2])
        nodes["clone"] = node("AnimateDiffMotionClone", model=model, reference=["reference", 0], **CLONING)
        model = ["clone", 0]
    if (of_path := path_node(clip)) is not None:
        class_type, numbers = of_path
        pictures = {} if clip.followed is None else {"images": ["video_frames", 0]}
        nodes["path"] = node(class_type, **numbers, **pictures)
        text = {"clip": ["checkpoint", 1], "prompt": clip.caption}
        nodes["follow"] = node("AnimateDiffFollowPath", model=model, path=["path", 0], **text, **follow(clip))
        model = ["follow", 0]
    if clip.amount is not None:
        nodes["amount"] = node("AnimateDiffMotionAmount", model=model, amount=clip.amount)
        model = ["amount", 0]
    nodes["sampler"] = node(
        "KSampler",
        model=model,
        positive=["positive", 0],
        negative=["negative", 0],
        latent_image=["latent", 0],
        seed=clip.seed,
        cfg=clip.cfg,
        **{**SAMPLING, "steps": steps(clip)},
    )
    nodes["decode"] = node("VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2])
    nodes["save"] = node("SaveImage", images=["decode", 0], filename_prefix="claims")
    return nodes


def precision() -> str:
    """bf16 where the processor computes in it: a third faster, with the same losses."""
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"


def _training_data(folder: str) -> dict[str, dict]:
    """Nodes from a folder of videos with captions to latents and conditionings, one per clip."""
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "videos": node("LoadVideoTextDataSetFromFolder", folder=folder),
        "frames": node("GetVideoComponents", video=["videos", 0]),
        "latents": node("VAEEncode", pixels=["frames", 0], vae=["checkpoint", 2]),
        "captions": node("CLIPTextEncode", text=["videos", 1], clip=["checkpoint", 1]),
        "empty": node("CLIPTextEncode", text="", clip=["checkpoint", 1]),
        "loss": node("LossGraphNode", loss=["train", 1], filename_prefix="loss"),
    }


def _loop(
    steps: int, batch: int, learning_rate: float, seed: int, schedule: str = "cosine", end_percent: float = 1.0
) -> dict:
    return {
        "latents": ["latents", 0],
        "positive": ["captions", 0],
        "negative": ["empty", 0],
        "steps": steps,
        "batch": batch,
        "learning_rate": learning_rate,
        "learning_rate_schedule": schedule,
        "optimizer": "AdamW",
        "weight_decay": 0.0,
        "caption_dropout": 0.1,
        "seed": seed,
        "precision": precision(),
        "gradient_checkpointing": False,
        "preview_every": 0,
        "end_percent": end_percent,
    }


def _notes() -> dict:
    """What is noted in the files of trained models that carry no notes of their own."""
    return {"base": CHECKPOINT, "steps": ["train", 2]}


def domain_adapter_prompt(folder: str, name: str, steps: int, rank: int) -> dict:
    return {
        **_training_data(folder),
        # the noise that it will meet when the motion module is trained
        "model": node("ADE_UseEvolvedSampling", model=["checkpoint", 0], beta_schedule=MOTION_BETAS),
        "train": node(
            "AnimateDiffTrainDomainAdapter",
            model=["model", 0],
            rank=rank,
            alpha=float(rank),
            **_loop(steps, 24, 2e-3, 1),
        ),
        "save": node(
            "AnimateDiffSaveDomainAdapter",
            lora=["train", 0],
            filename_prefix=name,
            dtype="float16",
            **_notes(),
        ),
    }


@dataclass(frozen=True)
class Stretch:
    """A part of the motion module's training: with which domain adapter, for how long, down to which noise level."""

    adapter: str | None
    steps: int
    learning_rate_schedule: str = "cosine"
    end_percent: float = 1.0


def motion_module_prompt(folder: str, start: str, stretch: Stretch, seed: int) -> dict:
    """Train on from ``start``."""
    nodes = _training_data(folder)
    model = ["checkpoint", 0]
    if stretch.adapter:
        nodes["adapter"] = node("AnimateDiffLoadDomainAdapter", model=model, lora_name=stretch.adapter, scale=1.0)
        model = ["adapter", 0]
    nodes["start"] = node("ADE_LoadAnimateDiffModel", model_name=start)
    nodes["train"] = node(
        "AnimateDiffTrainMotionModule",
        model=model,
        start=["start", 0],
        layout="v2",
        beta_schedule=MOTION_BETAS,
        frames=SCENES.frames,
        **_loop(stretch.steps, 2, 1e-3, seed, stretch.learning_rate_schedule, stretch.end_percent),
    )
    nodes["save"] = node(
        "AnimateDiffSaveMotionModel", motion_model=["train", 0], filename_prefix="toyworld", dtype="float32", **_notes()
    )
    return nodes
