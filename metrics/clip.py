"""CLIP measures of AnimateDiff (arXiv 2307.04725, section 5.2 and Table 1), on embeddings, times 100.

Embeddings come from host/clip.py. The paper does not name its CLIP model: compare only numbers of one model.
"""

import torch
from torch.nn.functional import cosine_similarity


def motion_smoothness(frames: torch.Tensor) -> torch.Tensor:
    """100 x cosine of adjacent frames: embeddings ``(frames, d)`` -> ``(frames - 1,)``."""
    return 100 * cosine_similarity(frames[:-1], frames[1:], dim=-1)


def domain_similarity(frames: torch.Tensor, stills: torch.Tensor) -> torch.Tensor:
    """100 x mean cosine of each frame with reference stills: ``(frames, d)``, ``(stills, d)`` -> ``(frames,)``."""
    return 100 * cosine_similarity(frames[:, None], stills[None], dim=-1).mean(1)


def text_alignment(frames: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """100 x cosine of each frame with a text: ``(frames, d)``, ``(d,)`` -> ``(frames,)``.

    Raises ValueError if the embeddings are not of one size, hence not of one CLIP.
    """
    if frames.shape[-1] != text.shape[-1]:
        raise ValueError(
            f"clip and clip_vision are not the two halves of one CLIP (text embeddings have {text.shape[-1]} numbers, "
            f"image embeddings {frames.shape[-1]}); clip_g belongs to ViT-bigG, clip_h to ViT-H"
        )
    return 100 * cosine_similarity(frames, text[None], dim=-1)
