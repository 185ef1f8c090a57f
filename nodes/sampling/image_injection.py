"""Image injection: pictures that are laid into a clip while it is sampled."""

from functools import partial

import torch
from comfy_api.latest import io

from ...sampling.image_injection.picture import InjectedPicture, Place
from ...sampling.keyframes import chained
from ...sampling.strength.multival import Multival
from .. import sockets
from ..base import node

CATEGORY = "AnimateDiff/sample settings/image injection"
Options = sockets.Socket("IMAGE_INJECT_OPTIONS", "For img_inject_opts of Image Injection.")
_node = partial(node, category=CATEGORY)


def _picture(
    image: torch.Tensor,
    vae,
    mask_opt: torch.Tensor | None = None,
    invert_mask: bool = False,
    resize_image: bool = True,
    start_percent: float = 0.0,
    guarantee_steps: int = 1,
    img_inject_opts: Place | None = None,
    strength_multival: Multival = 1.0,
    prev_image_inject: tuple[InjectedPicture, ...] = (),
) -> tuple[InjectedPicture, ...]:
    picture = InjectedPicture(
        image,
        vae,
        mask_opt,
        invert_mask,
        resize_image,
        start_percent,
        int(guarantee_steps),
        img_inject_opts or Place(),
        strength_multival,
    )
    return chained((picture,), prev_image_inject)


def _offset(name: str, direction: str) -> io.Input:
    tooltip = f"How far {direction} the picture lies, in eighths of a pixel: 64 are 8 pixels."
    return io.Int.Input(name, default=0, min=0, max=16384, step=1, optional=True, tooltip=tooltip)


NODES = [
    _node(
        _picture,
        node_id="ADE_NoisedImageInjection",
        display_name="Image Injection",
        old_name="Image Injection",
        description="Lays a picture into the clip while it is sampled: the steps that follow make it a part of it.",
        inputs=lambda: [
            io.Image.Input("image", tooltip="One for all frames, or one for each; the last one serves the rest."),
            io.Vae.Input("vae", tooltip="That of the checkpoint."),
            io.Mask.Input("mask_opt", optional=True, tooltip="Where the picture covers the clip."),
            io.Boolean.Input(
                "invert_mask", default=False, optional=True, tooltip="The picture covers what the mask leaves out."
            ),
            io.Boolean.Input(
                "resize_image", default=True, optional=True, tooltip="To the size of the clip. Off: as large as it is."
            ),
            sockets.percent("start_percent", "Where in the sampling schedule it is laid in.", optional=True),
            io.Int.Input(
                "guarantee_steps",
                default=1,
                min=1,
                max=sockets.LARGEST,
                optional=True,
                tooltip="How often it is laid in: after so many steps in a row.",
            ),
            Options.Input("img_inject_opts", optional=True, tooltip="Where the picture lies."),
            sockets.Multival.Input(
                "strength_multival", optional=True, tooltip="0 leaves the clip as it is, 1 takes the picture."
            ),
            sockets.ImageInject.Input("prev_image_inject", optional=True, tooltip="Pictures besides this one."),
        ],
        outputs=[sockets.ImageInject.Output("IMAGE_INJECT")],
    ),
    _node(
        lambda composite_x=0, composite_y=0: Place(int(composite_x), int(composite_y)),
        node_id="ADE_NoisedImageInjectOptions",
        display_name="Image Injection Options",
        old_name="Image Injection Options",
        description="Where in the clip an injected picture lies.",
        inputs=[_offset("composite_x", "from the left"), _offset("composite_y", "from the top")],
        outputs=[Options.Output("IMG_INJECT_OPTS")],
    ),
]
