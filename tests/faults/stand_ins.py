"""Small stand-ins for what a user's graph begins and ends with: models, texts, pictures, and links that carry anything.

They are nodes of the host (V1 classes), so that whole prompts run through its executor. ``world`` writes the files that
the loaders find.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from types import SimpleNamespace

import safetensors.torch
import torch
from animatediff_tests_tiny import (
    CONTEXT,
    TINY,
    UNUSUAL,
    camera_control_tensors,
    channels_per_level,
    fps_and_motion_tensors,
    image_encoder_tensors,
    image_input_tensors,
    motion_ctrl_tensors,
    motion_model_tensors,
    randomise,
    tiny_model,
)
from animatediff_tests_videos import greys, write_video

LAYOUT = UNUSUAL
FRAMES, SIZE = 6, 64  # pixels: latents of 8 x 8
CALLS = SimpleNamespace(unet=0)  # of any tiny UNet, training copies too
KEPT: dict[str, object] = {}
VALUES: dict[str, object] = {}  # what links carry; see `carried`


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def count_call(*_) -> None:
    CALLS.unet += 1


def node(function, inputs: dict[str, str | tuple], outputs: tuple[str, ...], **attributes) -> type:
    """A node that hands its inputs to ``function`` by name; what that returns is its one output, or a tuple of them."""

    def execute(self, **values):
        result = function(**values)
        return result if len(outputs) > 1 else (result,)

    required = {name: kind if isinstance(kind, tuple) else (kind, {}) for name, kind in inputs.items()}
    fields = {"RETURN_TYPES": outputs, "FUNCTION": "execute", "CATEGORY": "test", "execute": execute, **attributes}
    fields["INPUT_TYPES"] = classmethod(lambda cls: {"required": required})
    return type(function.__name__, (), fields)


def model(seed: int, disable_dynamic: bool = False):
    made = tiny_model(LAYOUT, seed)
    made.cached_patcher_init = (model, (seed,))  # by which the host makes copies
    # not the UNet itself: what skips its calls (EasyCache) stands around its forward
    made.model.diffusion_model.time_embed.register_forward_pre_hook(count_call)
    return made


def other_model(seed: int):
    """A MODEL whose network is no Stable Diffusion UNet."""
    made = tiny_model(LAYOUT, seed)
    made.model.diffusion_model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    return made


class TinyClip:
    """Texts as random numbers that depend on the text, one token for each word and no fewer than seven."""

    patcher = SimpleNamespace(forced_hooks=None)
    use_clip_schedule = False

    def clone(self, **_) -> TinyClip:
        made = copy.copy(self)
        made.patcher = SimpleNamespace(forced_hooks=None, register_all_hook_patches=lambda *_: None)
        return made

    def tokenize(self, text: str) -> str:
        return text

    def add_hooks_to_dict(self, options: dict) -> dict:
        return options

    def encode_from_tokens(self, tokens: str, return_pooled: bool = False):
        seed = int.from_bytes(tokens.encode()[:64], "little") % (1 << 31)
        return seeded(1, max(7, len(tokens.split())), CONTEXT, seed=seed), seeded(1, CONTEXT, seed=seed + 1)


def clip():
    return TinyClip()


class TinyVae:
    """Eight by eight pixels of a grey picture for each latent."""

    latent_channels = 4

    def spacial_compression_encode(self) -> int:
        return 8

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.avg_pool2d(pictures.movedim(-1, 1), 8)
        return small.mean(1, keepdim=True).expand(-1, 4, -1, -1).contiguous()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        pictures = torch.nn.functional.interpolate(latents[:, :3].sigmoid(), scale_factor=8.0)
        return pictures.movedim(1, -1)


def vae():
    return TinyVae()


def cond(seed: int):
    return [[seeded(1, 7, CONTEXT, seed=seed), {"pooled_output": None}]]


def control_net(seed: int):
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    options = {name: value for name, value in LAYOUT.items() if name != "transformer_depth_output"}
    settings = {name: value for name, value in TINY.items() if name not in ("out_channels", "dtype")}
    depths = {"transformer_depth_output": LAYOUT["transformer_depth_output"]}
    network = comfy.cldm.cldm.ControlNet(
        **settings, **options, **depths, hint_channels=3, operations=comfy.ops.disable_weight_init
    )
    randomise(network, seed)
    network.eval().requires_grad_(False)
    return comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))


def pictures(frames: int, seed: int):
    return seeded(frames, SIZE, SIZE, 3, seed=seed).sigmoid()


def mask(frames: int, seed: int):
    return seeded(frames, 4, 4, seed=seed).sigmoid()


def latent(frames: int, seed: int):
    """Latents of a clip; of seed 0 an empty one."""
    samples = seeded(frames, 4, SIZE // 8, SIZE // 8, seed=seed)
    return {"samples": samples if seed else torch.zeros_like(samples)}


def decoded(samples):
    """As VAE Decode: pictures of latents."""
    return samples["samples"][:, :3].movedim(1, -1).sigmoid()


def value(name: str):
    return VALUES[name]


def tiles(model, together: bool):
    """As packs for large pictures do: the UNet sees two halves of the picture, ``together`` in one call or one by one."""
    model = model.clone()

    def wrapper(apply_model, args):
        x, timestep, options = args["input"], args["timestep"], args["c"]
        halves = x.chunk(2, -1)
        if not together:
            return torch.cat([apply_model(half, timestep, **options) for half in halves], -1)
        twice = {name: torch.cat([one, one]) if isinstance(one, torch.Tensor) else one for name, one in options.items()}
        made = apply_model(torch.cat(halves), torch.cat([timestep, timestep]), **twice)
        return torch.cat(made.chunk(2), -1)

    model.set_model_unet_function_wrapper(wrapper)
    return model


def watched(model, name: str):
    """What the UNet is given goes into the list ``VALUES[name]``, call by call."""
    model, seen = model.clone(), VALUES.setdefault(name, [])

    def wrapper(apply_model, args):
        seen.append(args["input"].clone())
        return apply_model(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(wrapper)
    return model


def viewer() -> dict:
    """The camera of a 3D viewer."""
    return {"position": {"x": 1, "y": 2, "z": 5}, "target": {"x": 0, "y": 0, "z": 0}, "fov": 40, "zoom": 1}


def tracks():
    """Of the host's Generate Video Tracks, through 64 x 64 pixels."""
    places = torch.linspace(16, 48, FRAMES)[:, None, None].expand(FRAMES, 2, 2)
    return {"track_path": places, "track_visibility": torch.ones(FRAMES, 2, dtype=torch.bool)}


def rays() -> torch.Tensor:
    """Those of a camera that stands still for one frame, as Wan's camera node gives them."""
    x, y = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(8) + 0.5, indexing="xy")
    direction = torch.stack([x / 4 - 1, y / 4 - 1, torch.ones(8, 8)])
    direction = direction / direction.norm(dim=0)
    return torch.cat([torch.zeros(3, 8, 8), direction]).repeat_interleave(4, dim=0)[None, :, None]


def anything(value):
    CALLS.unet = 0  # a training that made ``value`` is none of what happens to it
    return value


def keep(name: str, value):
    KEPT[name] = value
    return {"ui": {}}


@classmethod
def always(cls, **_) -> float:
    """An IS_CHANGED that makes the host run a node each time."""
    return float("nan")


STAND_INS = {
    "TinyModel": node(model, {"seed": "INT"}, ("MODEL",)),
    "OtherModel": node(other_model, {"seed": "INT"}, ("MODEL",)),
    "TinyClip": node(clip, {}, ("CLIP",)),
    "TinyVae": node(vae, {}, ("VAE",)),
    "TinyCond": node(cond, {"seed": "INT"}, ("CONDITIONING",)),
    "TinyControlNet": node(control_net, {"seed": "INT"}, ("CONTROL_NET",)),
    "TinyPictures": node(pictures, {"frames": "INT", "seed": "INT"}, ("IMAGE",)),
    "TinyMask": node(mask, {"frames": "INT", "seed": "INT"}, ("MASK",)),
    "TinyViewer": node(viewer, {}, ("LOAD3D_CAMERA",)),
    "TinyTracks": node(tracks, {}, ("TRACKS",)),
    "TinyRays": node(rays, {}, ("WAN_CAMERA_EMBEDDING",)),
    "TinyLatent": node(latent, {"frames": "INT", "seed": "INT"}, ("LATENT",)),
    "Tiles": node(tiles, {"model": "MODEL", "together": "BOOLEAN"}, ("MODEL",)),
    "Watched": node(watched, {"model": "MODEL", "name": "STRING"}, ("MODEL",), IS_CHANGED=always),
    "TinyDecode": node(decoded, {"samples": "LATENT"}, ("IMAGE",)),
    # what a switch, a reroute or another pack's node of wildcard type may hand on
    "Value": node(value, {"name": "STRING"}, ("*",)),
    "Values": node(value, {"name": "STRING"}, ("*",), OUTPUT_IS_LIST=(True,)),
    "Any": node(anything, {"value": "*"}, ("*",)),
    "Keep": node(keep, {"name": "STRING", "value": "*"}, (), OUTPUT_NODE=True, IS_CHANGED=always),
}


def carried(graph, name: str, what, as_list: bool = False):
    """The link of a node that hands on ``what``, any Python object; ``as_list``: each of its items as a value."""
    VALUES[name] = what
    return graph("Values" if as_list else "Value", name=name)


def adapter_tensors(seed: int = 5) -> dict[str, torch.Tensor]:
    """A LoRA of the tiny UNet's spatial attention, in names that the host's loaders know for any depth."""
    unet = tiny_model(LAYOUT).model.diffusion_model
    tensors = {}
    for name, weight in unet.state_dict().items():
        if ".attn1.to_q." in name or ".attn2.to_k." in name:
            layer = f"diffusion_model.{name.removesuffix('.weight')}"
            tensors[f"{layer}.lora_down.weight"] = seeded(2, weight.shape[1], seed=seed + len(tensors)) * 0.2
            tensors[f"{layer}.lora_up.weight"] = seeded(weight.shape[0], 2, seed=seed + len(tensors)) * 0.2
    return tensors


def sparse_ctrl_tensors() -> dict[str, torch.Tensor]:
    """A SparseCtrl for sketches, of diffusers' own network."""
    import diffusers

    network = diffusers.SparseControlNetModel(
        down_block_types=("CrossAttnDownBlockMotion",) * len(LAYOUT["channel_mult"]),
        block_out_channels=channels_per_level(LAYOUT),
        layers_per_block=1,
        cross_attention_dim=CONTEXT,
        conditioning_channels=3,
        use_simplified_condition_embedding=False,
    )
    randomise(network, 15)
    return network.state_dict()


def motion_lora_tensors(motion: dict[str, torch.Tensor], rank: int = 2, seed: int = 7) -> dict[str, torch.Tensor]:
    """A MotionLoRA for the tensors of a motion model, in AnimateDiff's names."""
    tensors = {}
    for name, weight in motion.items():
        for projection in ("to_q", "to_k", "to_v", "to_out"):
            if name.endswith((f".{projection}.weight", f".{projection}.0.weight")):
                layer = f"{name.split(f'.{projection}.')[0]}.processor.{projection}_lora"
                out, width = weight.shape
                tensors[f"{layer}.down.weight"] = seeded(rank, width, seed=seed + len(tensors)) * width**-0.5
                tensors[f"{layer}.up.weight"] = seeded(out, rank, seed=seed + len(tensors)) * 0.3
    return tensors


def models_folder(key: str) -> str:
    import folder_paths

    path = os.path.join(folder_paths.models_dir, key)
    os.makedirs(path, exist_ok=True)
    return path


POSE = "33 0.5 0.9 0.5 0.5 0 0 1 0 0 0.1 0 1 0 0.2 0 0 1 0.3"


def write_files(pack) -> None:
    """Models and inputs for the loaders, below the host's base folder."""
    import folder_paths

    def save(folder: str, name: str, tensors: dict) -> None:
        safetensors.torch.save_file(tensors, os.path.join(models_folder(folder), f"{name}.safetensors"))

    v2 = motion_model_tensors(pack, LAYOUT, "v2")
    v1 = motion_model_tensors(pack, LAYOUT, "v1", mid=False, seed=2)
    tableless = {name: value for name, value in v1.items() if not name.endswith(".pe")}
    save("animatediff_models", "v2", v2)
    save("animatediff_models", "v1", v1)
    save("animatediff_models", "i2v", image_encoder_tensors(pack, tableless))
    pia = v1 | image_input_tensors()
    save("animatediff_models", "pia", pia)
    save("animatediff_models", "fancy", pia | fps_and_motion_tensors() | {"FancyVideo": torch.zeros(1)})
    save("controlnet", "sparse", sparse_ctrl_tensors())
    save("animatediff_models", "camera", camera_control_tensors(pack, v2))
    save("animatediff_models", "cmcm", motion_ctrl_tensors(v2))
    save("animatediff_motion_lora", "zoom", motion_lora_tensors(v2))
    save("animatediff_motion_lora", "pan", motion_lora_tensors(v2, seed=90))
    save("loras", "adapter", adapter_tensors())
    save("checkpoints", "tiny", {"nothing": torch.zeros(1)})  # what reads it is put in by a fixture
    os.makedirs(folder_paths.get_input_directory(), exist_ok=True)
    with open(os.path.join(folder_paths.get_input_directory(), "poses.txt"), "w") as file:
        file.write(f"title\n{POSE}\n{POSE}\n")
    write_video(Path(folder_paths.get_input_directory()) / "clips" / "clip.mkv", greys(70))
