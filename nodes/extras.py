"""Loading, saving and undoing around an animation."""

import logging

import comfy.utils
import torch
from comfy_api.latest import io

from ..host import folders, loading, media
from ..host import vae as host_vae
from ..host.progress import note
from ..host.schema import schema
from ..sampling.animate import without_features
from ..sampling.checks import check_latents
from ..sampling.schedules import beta_schedules
from . import sockets
from .base import MARK, Node, node
from .file_nodes import FileNode
from .values import above

CATEGORY = "AnimateDiff/extras"
MOST_BYTES = 64 << 30  # of empty latents: more than the largest batch of 512 x 512 pixels takes


def _noise_schedule() -> io.Combo.Input:
    return io.Combo.Input(
        "beta_schedule",
        options=beta_schedules.OPTIONS,
        default=beta_schedules.USE_EXISTING,
        tooltip="Noise schedule. autoselect and use existing keep that of the checkpoint.",
    )


class LoadCheckpointWithNoiseSelect(FileNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="CheckpointLoaderSimpleWithNoiseSelect",
            display_name="Load Checkpoint with Noise Schedule",
            category=CATEGORY,
            description="Load Checkpoint, with another noise schedule, and if need be another scale of latents.",
            search_aliases=[f"Load Checkpoint w/ Noise Select {MARK}", "beta schedule"],
            inputs=[
                sockets.file_of(folders.CHECKPOINTS, "ckpt_name", "checkpoints"),
                _noise_schedule(),
                io.Boolean.Input(
                    "use_custom_scale_factor", default=False, optional=True, tooltip="Whether scale_factor counts."
                ),
                io.Float.Input(
                    "scale_factor",
                    default=0.18215,
                    min=0.0,
                    max=1.0,
                    step=0.00001,
                    optional=True,
                    tooltip="What latents are multiplied by before they are denoised. 0.18215 is that of SD1.5.",
                ),
            ],
            outputs=[
                sockets.MODEL_OUTPUT,
                io.Clip.Output("CLIP", tooltip="The text encoder, for prompts."),
                io.Vae.Output("VAE", tooltip="Turns pictures into latents, and latents into pictures."),
            ],
        )

    @classmethod
    def run(
        cls, ckpt_name: str, beta_schedule: str, use_custom_scale_factor: bool = False, scale_factor: float = 0.18215
    ) -> io.NodeOutput:
        if use_custom_scale_factor:
            above("scale_factor", scale_factor, 0)  # pictures are divided by it
        model, clip, vae = loading.load_checkpoint(ckpt_name)
        model = beta_schedules.with_schedule(model, beta_schedule)
        if use_custom_scale_factor:
            model = loading.with_latent_scale(model, scale_factor)
        return io.NodeOutput(model, clip, vae)


class AnimateDiffCombine(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_AnimateDiffCombine",
            display_name="AnimateDiff Combine",
            category="AnimateDiff/deprecated",
            description=(
                "Saves pictures as one animation, and the first of them as PNG. In new workflows use Save Animated WEBP, "
                "Create Video with Save Video, or Video Combine of VideoHelperSuite."
            ),
            search_aliases=[f"\U0001f6abAnimateDiff Combine [DEPRECATED, Use Video Combine (VHS) Instead!] {MARK}"],
            is_deprecated=True,
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The pictures of the animation, in order."),
                io.Int.Input("frame_rate", default=8, min=1, max=24, step=1, tooltip="Frames per second."),
                io.Int.Input(
                    "loop_count",
                    default=0,
                    min=0,
                    max=100,
                    step=1,
                    tooltip="How often the animation repeats. 0: for ever (in GIF and WebP).",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="AnimateDiff",
                    tooltip="Beginning of the file's name; a counter is added, nothing is overwritten. Subfolders are possible.",
                ),
                sockets.OpenCombo(
                    "format",
                    options=list(media.PICTURES),
                    tooltip="GIF plays everywhere, in 256 colours. WebP keeps all colours in a smaller file.",
                ),
                io.Boolean.Input("pingpong", default=False, tooltip="Then back to the first picture."),
                io.Boolean.Input(
                    "save_image", default=True, tooltip="Off: into the temp folder, which is emptied at the next start."
                ),
            ],
            outputs=[io.Custom("GIF").Output("GIF", tooltip="Path of the animation.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def validate_inputs(cls, format):
        # The combo lists two; older workflow files also hold names of video formats. The host leaves a value alone
        # that is asked for here.
        return True if format is None or media.is_format(format) else media.no_format(format)

    @classmethod
    def run(
        cls,
        images: torch.Tensor,
        frame_rate: int,
        loop_count: int,
        filename_prefix: str,
        format: str,
        pingpong: bool,
        save_image: bool,
    ) -> io.NodeOutput:
        metadata = {} if cls.hidden.prompt is None else {"prompt": cls.hidden.prompt}
        metadata |= cls.hidden.extra_pnginfo or {}
        if pingpong:
            images = media.there_and_back(images)
        clip = media.save_clip(
            images, filename_prefix, format, frame_rate, loops=loop_count, keep=save_image, metadata=metadata
        )
        note(problem := media.too_fast(format, frame_rate))
        if problem:
            logging.warning("[AnimateDiff] %s", problem)
        # The front end plays one WebP in place. Several pictures are stills to it, and what has another name is a video,
        # which a GIF is not. "gifs" is what other packs and scripts read.
        is_gif = media.PICTURES.get(format) == "gif"
        shown = media.save_preview(images, min(frame_rate, media.FASTEST_GIF), loop_count) if is_gif else clip
        ui = {"images": [shown.result], "animated": (True,), "gifs": [{**clip.result, "format": format}]}
        return io.NodeOutput(clip.path, ui=ui)


def _empty_latent(width: int, height: int, batch_size: int) -> dict:
    needed = batch_size * width * height // 4  # bytes: 4 channels of 4 bytes for 8 x 8 pixels
    if needed > MOST_BYTES:
        raise ValueError(
            f"{batch_size} latents of {width} x {height} pixels take {needed / (1 << 30):.0f} GiB; at most "
            f"{MOST_BYTES >> 30} GiB are possible. Lower batch_size, width or height."
        )
    return loading.empty_latent(width, height, batch_size)


def _scaled_and_encoded(image: torch.Tensor, vae, latent_size: dict, scale_method: str, crop: str) -> dict:
    check_latents(latent_size["samples"])
    height, width = (host_vae.PIXELS * side for side in latent_size["samples"].shape[-2:])

    def latents(pictures: torch.Tensor) -> torch.Tensor:
        scaled = comfy.utils.common_upscale(pictures.movedim(-1, 1), width, height, scale_method, crop)
        return host_vae.encode(vae, scaled.movedim(1, -1))

    host_vae.check(vae, latent_size["samples"].shape[1], "Scale Ref Image and VAE Encode")
    pictures = image[..., :3]
    return {"samples": torch.cat([latents(pictures[part]) for part in host_vae.parts(len(pictures))])}


NODES = [
    node(
        without_features,
        node_id="ADE_AnimateDiffUnload",
        display_name="AnimateDiff Unload",
        old_name="AnimateDiff Unload",
        category=CATEGORY,
        description=(
            "The model without its motion models and sampling settings; LoRAs, patches of other packs and the noise "
            "schedule stay. For a second, still pass."
        ),
        inputs=[sockets.model("A MODEL with motion models or sampling settings on it.")],
        outputs=[sockets.MODEL_OUTPUT],
    ),
    node(
        _empty_latent,
        node_id="ADE_EmptyLatentImageLarge",
        display_name="Empty Latent Image (Big Batch)",
        old_name="Empty Latent Image (Big Batch)",
        category=CATEGORY,
        description="Empty latents for clips of more than 4096 frames.",
        inputs=[
            io.Int.Input(
                "width",
                default=512,
                min=64,
                max=16384,
                step=8,
                tooltip="Width in pixels: near 512 for SD1.5, 1024 for SDXL.",
            ),
            io.Int.Input(
                "height",
                default=512,
                min=64,
                max=16384,
                step=8,
                tooltip="Height in pixels: near 512 for SD1.5, 1024 for SDXL.",
            ),
            io.Int.Input("batch_size", default=1, min=1, max=262144, tooltip="Number of frames."),
        ],
        outputs=[io.Latent.Output("LATENT", tooltip="For latent_image of KSampler.")],
    ),
    node(
        _scaled_and_encoded,
        node_id="ADE_UpscaleAndVAEEncode",
        display_name="Scale Ref Image and VAE Encode",
        old_name="Scale Ref Image and VAE Encode",
        category="AnimateDiff/AnimateLCM-I2V",
        description="Latents of pictures, scaled to the size of the clip.",
        inputs=lambda: [
            io.Image.Input("image", tooltip="One for all frames, or one for each."),
            io.Vae.Input("vae", tooltip="That of the checkpoint."),
            io.Latent.Input("latent_size", tooltip="The latents of the clip."),
            io.Combo.Input(
                "scale_method",
                options=["nearest-exact", "bilinear", "area", "bicubic", "lanczos"],
                tooltip="How pictures are resized: area suits smaller ones, bicubic and lanczos are sharp, nearest-exact is blocky.",
            ),
            io.Combo.Input(
                "crop",
                options=["disabled", "center"],
                default="center",
                tooltip="center: cut to the shape of the clip first. disabled: distorted to it.",
            ),
        ],
        outputs=[io.Latent.Output("LATENT", tooltip="For ref_latent of Apply AnimateLCM-I2V Model.")],
    ),
    LoadCheckpointWithNoiseSelect,
    AnimateDiffCombine,
]
