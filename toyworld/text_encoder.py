"""The toy world's text encoder: a CLIP-L whose layers do nothing.

Every token has a random embedding that comes from a seed and reaches cross-attention in the first ``LIVE_TEXT``
channels, normalised. Nothing of it is learned, so nothing of it is stored.
"""

import comfy.sd
import torch

from .unet import LIVE_TEXT, TEXT_WIDTH

PREFIX = "cond_stage_model.transformer.text_model."
TOKENS, POSITIONS, LAYERS = 49408, 77, 12
SEED = 20230710


def tensors() -> dict[str, torch.Tensor]:
    """The state dict under the names of an SD1.5 checkpoint, float16."""
    generator = torch.Generator().manual_seed(SEED)
    c = TEXT_WIDTH
    shapes = {}
    for layer in range(LAYERS):
        name = f"encoder.layers.{layer}."
        for part in ("q", "k", "v", "out"):
            shapes |= {f"{name}self_attn.{part}_proj.weight": (c, c), f"{name}self_attn.{part}_proj.bias": (c,)}
        shapes |= {f"{name}mlp.fc1.weight": (4 * c, c), f"{name}mlp.fc1.bias": (4 * c,)}
        shapes |= {f"{name}mlp.fc2.weight": (c, 4 * c), f"{name}mlp.fc2.bias": (c,)}
        for norm in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{name}{norm}.weight": (c,), f"{name}{norm}.bias": (c,)}
    found = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}
    found["embeddings.token_embedding.weight"] = torch.randn(TOKENS, c, generator=generator).half()
    found["embeddings.position_embedding.weight"] = 0.3 * torch.randn(POSITIONS, c, generator=generator).half()
    live = torch.zeros(c, dtype=torch.float16)
    live[:LIVE_TEXT] = 1
    found["final_layer_norm.weight"] = live
    found["final_layer_norm.bias"] = torch.zeros_like(live)
    return {PREFIX + name: value for name, value in found.items()}


def clip() -> comfy.sd.CLIP:
    """ComfyUI's text encoder with these weights."""
    prefix = "cond_stage_model.transformer."
    layers = {name.removeprefix(prefix): value for name, value in tensors().items()}
    return comfy.sd.load_text_encoder_state_dicts([layers], clip_type=comfy.sd.CLIPType.STABLE_DIFFUSION)


def contexts(texts: list[str]) -> torch.Tensor:
    """What ComfyUI's text encoder makes of each of ``texts``, ``(texts, 77, 768)``."""
    encoder = clip()
    with torch.no_grad():
        return torch.cat([encoder.encode_from_tokens(encoder.tokenize(text)) for text in texts]).clone()
