"""Measures that follow the motion of pixels, with OpenCV's optical flow.

OpenCV is not among the requirements: its four packages all install the module ``cv2``, and one installed over
another breaks the packs that need it. Whichever is there is used.
"""

from typing import Any

import numpy as np
import torch
from torch.nn.functional import grid_sample, pad

from ..host.told import Told

DYNAMIC_SHARE = 0.05  # of the pixels: those that move most
# OpenCV 5.0 crashes the whole process on very small pictures.
SMALLEST_SIDE = 64


class NoOpenCV(Told, ImportError):
    """OpenCV is not installed. The message says what to do."""


def optical_flow(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Where each pixel of one frame is in the next: ``(h, w, 3)`` in 0..1, twice -> ``(2, h, w)``, (x, y) in pixels.

    Dense Inverse Search (Kroeger et al., arXiv 1603.03590) on 8-bit luminance, preset "medium". Good to about a
    tenth of a pixel where there is texture or an edge nearby; motion beyond an eighth of the picture may be missed.

    Raises NoOpenCV.
    """
    try:
        import cv2
    except ImportError as error:
        raise NoOpenCV(
            "needs OpenCV, which is not installed: run `pip install opencv-python-headless` in ComfyUI's Python"
        ) from error
    height, width = first.shape[:2]
    padding = (0, max(0, SMALLEST_SIDE - width), 0, max(0, SMALLEST_SIDE - height))
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = search.calc(luminance(first, padding), luminance(second, padding), None)
    return torch.from_numpy(flow).permute(2, 0, 1)[:, :height, :width]


def luminance(frame: torch.Tensor, padding: tuple[int, int, int, int]) -> np.ndarray:
    """``(h, w, 3)`` -> 8-bit ``(h, w)``, its edges repeated into the padding (ITU-R BT.601 weights)."""
    grey = (frame.float().cpu() @ torch.tensor([0.299, 0.587, 0.114])).mul(255).round()
    return pad(grey[None, None], padding, mode="replicate")[0, 0].byte().contiguous().numpy()


def dynamic_degree(flow: torch.Tensor) -> float:
    """How far the 5 % of the pixels that move most move, in pixels: mean over them of ``(2, h, w)``'s length.

    The quantity that VBench (arXiv 2311.17982) compares with a threshold for its "dynamic degree"; there from RAFT.
    """
    lengths = flow.norm(dim=0).flatten()
    return float(lengths.topk(max(1, round(DYNAMIC_SHARE * len(lengths)))).values.mean())


def warp(frame: torch.Tensor, flow: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The later frame ``(h, w, 3)`` pulled back along the flow ``(2, h, w)`` into the place of the earlier one.

    Bilinear. Also returns ``(h, w)``, False where the flow points outside the picture.
    """
    height, width = frame.shape[:2]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    target = torch.stack((x, y)) + flow
    last = torch.tensor([width - 1, height - 1]).view(2, 1, 1)
    inside = ((target >= 0) & (target <= last)).all(0)
    grid = (2 * target / last.clamp(min=1) - 1).permute(1, 2, 0)[None]
    image = frame.permute(2, 0, 1)[None].float().cpu()
    return grid_sample(image, grid, align_corners=True, padding_mode="border")[0].permute(1, 2, 0), inside


def warp_error(first: torch.Tensor, second: torch.Tensor, flow: torch.Tensor) -> float:
    """What differs between two frames once motion is taken out: mean ``|first - warp(second)|`` in levels of 255.

    Frames ``(h, w, 3)`` in 0..1, flow ``(2, h, w)`` from first to second; over the pixels that stay in the picture.
    After the warping error of Lai et al. (arXiv 1808.00449, section 4), with absolute instead of squared differences
    and without their occlusion mask: of incoherent frames that mask would keep only the few pixels that fit by chance.
    """
    warped, inside = warp(second, flow)
    if not inside.any():
        return 255 * float((first - second).abs().mean())
    return 255 * float((first.float().cpu() - warped).abs()[inside].mean())
