"""Embeddings of pictures and texts in the space that a CLIP pair shares, from the host's CLIP_VISION and CLIP."""

from typing import Any

import comfy.clip_model
import torch

from .told import Told

PICTURES_AT_ONCE = 16


class NoEmbedding(Told, ValueError):
    """A model gives no embedding that could be compared with others. The message says why, and what to connect."""


def image_embeddings(clip_vision, images: torch.Tensor) -> torch.Tensor:
    """The projected embeddings ``(n, d)`` of pictures ``(n, h, w, 3)`` in 0..1, float32.

    Raises NoEmbedding for vision models without a projection (SigLIP, DINO).
    """
    # In these the host puts a plain function in the projection's place.
    if not isinstance(getattr(clip_vision.model, "visual_projection", None), torch.nn.Module):
        raise NoEmbedding("the model at clip_vision is no CLIP with a projection (SigLIP and DINO have none)")
    embeddings = [clip_vision.encode_image(some)["image_embeds"].float() for some in images.split(PICTURES_AT_ONCE)]
    return finite(torch.cat(embeddings), "clip_vision")


def text_embedding(clip, text: str) -> torch.Tensor:
    """The projected embedding ``(d,)`` of a text (its first 75 tokens), float32.

    Raises NoEmbedding where the text encoder has no trained projection. The host builds a projection into every CLIP
    text model, but uses it, and needs it in the file, only for OpenCLIP's (clip_g of SDXL, clip_h of SD2); in SD1.5's
    clip_l it holds whatever was in memory.
    """
    model = clip.cond_stage_model
    encoder: Any = getattr(model, "clip_g", None) or getattr(model, getattr(model, "clip", ""), None)
    projected = getattr(encoder, "return_projected_pooled", False)
    if not projected or not isinstance(encoder.transformer, comfy.clip_model.CLIPTextModel):
        raise NoEmbedding(
            "the text encoder at clip has no text projection (that of an SD1.5 checkpoint has none); connect the CLIP "
            "of an SDXL checkpoint, or Load CLIP with clip_g, and the CLIP vision model ViT-bigG"
        )
    _, pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)
    return finite(pooled[0].float(), "clip")


def finite(embeddings: torch.Tensor, name: str) -> torch.Tensor:
    if not embeddings.isfinite().all():
        raise NoEmbedding(f"the model at {name} gives NaN or infinity; its file may be damaged or incomplete")
    return embeddings
