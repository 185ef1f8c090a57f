"""Tiny networks of the host's own classes: seconds instead of minutes, every code path of the real ones."""

from __future__ import annotations

import os
import re
import shutil
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

SD15 = {  # the blocks of SD1.5 at a tenth of the width
    "channel_mult": (1, 2, 4, 4),
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
}
SDXL = {
    "channel_mult": (1, 2, 4),
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 2, 2, 2, 2],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 2, 2, 2],
    "transformer_depth_middle": 2,
}
UNUSUAL = {  # two levels, one residual block each
    "channel_mult": (1, 3),
    "num_res_blocks": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
}
WIDTH = 32
CONTEXT = 16
# What the UNets of all layouts share.
TINY = {
    "image_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": WIDTH,
    "num_heads": 4,
    "use_spatial_transformer": True,
    "context_dim": CONTEXT,
    "legacy": False,
    "dtype": torch.float32,
}


@pytest.fixture(scope="session")
def layouts() -> dict[str, dict]:
    return {"SD1.5": SD15, "SDXL": SDXL, "unusual": UNUSUAL}


def channels_per_level(layout: dict) -> tuple[int, ...]:
    return tuple(WIDTH * mult for mult in layout["channel_mult"])


def randomise(module: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        fan = parameter[0].numel() if parameter.ndim > 1 else 1
        parameter.data = noise * fan**-0.5 if parameter.ndim > 1 else noise * 0.05 + (1.0 if "weight" in name else 0.0)


@pytest.fixture
def new_unet(host_path):
    def new(layout: dict = SD15):
        import comfy.ops
        from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

        unet = UNetModel(**TINY, operations=comfy.ops.disable_weight_init, **layout)
        randomise(unet, seed=0)
        return unet.eval().requires_grad_(False)

    return new


def tiny_model(layout: dict = SD15, seed: int = 0):
    """A MODEL of the host around a tiny UNet."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    config = comfy.supported_models.SD15({**TINY, **layout})
    model = comfy.model_base.BaseModel(config)
    randomise(model, seed)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model.eval().requires_grad_(False), cpu, cpu)


@pytest.fixture
def on_the_node(pack, monkeypatch):
    """`with on_the_node("7") as shown:` as if that node ran in a server; `shown` gets (node, text) for each text on a node."""
    from comfy_execution.utils import CurrentNodeContext

    @contextmanager
    def runs(node_id: str):
        shown = []
        instance = SimpleNamespace(send_progress_text=lambda text, node: shown.append((node, text)))
        server = SimpleNamespace(PromptServer=SimpleNamespace(instance=instance))
        with monkeypatch.context() as patch, CurrentNodeContext("prompt", node_id):
            patch.setitem(sys.modules, "server", server)
            yield shown

    return runs


@pytest.fixture
def new_model(host_path):
    return tiny_model


@pytest.fixture
def new_sdxl_model(host_path):
    """A MODEL of the host's SDXL class around a tiny UNet; `pooled` is the width of its pooled texts."""

    def new(pooled: int, seed: int = 0):
        import comfy.model_base
        import comfy.model_patcher
        import comfy.supported_models

        config = comfy.supported_models.SDXL(
            {
                **TINY,
                "num_classes": "sequential",
                "adm_in_channels": pooled + 6 * 256,  # six embedded sizes
                **SDXL,
            }
        )
        model = comfy.model_base.SDXL(config)
        randomise(model, seed)
        cpu = torch.device("cpu")
        return comfy.model_patcher.ModelPatcher(model.eval().requires_grad_(False), cpu, cpu)

    return new


def motion_model_tensors(
    pack, layout: dict = SD15, name: str = "tiny", mid: bool = True, frames: int = 32, seed: int = 1
) -> dict[str, torch.Tensor]:
    """The tensors of a random motion model's file, in AnimateDiff's names."""
    levels = channels_per_level(layout)
    modules = layout["num_res_blocks"]
    down = tuple((c,) * n for c, n in zip(levels, modules, strict=True))
    up = tuple((c,) * (n + 1) for c, n in zip(levels[::-1], modules[::-1], strict=True))
    spec_type = pack.submodule("motion_models.spec").MotionModelSpec
    spec = spec_type(name, "AnimateDiff", "v2", down, (levels[-1],) if mid else (), up, 2, 8, frames, 0)
    model = pack.submodule("motion_models.network.temporal").MotionModel(spec)
    randomise(model, seed)
    return model.state_dict()


def camera_control_tensors(pack, motion: dict, frames: int = 16, seed: int = 5) -> dict[str, torch.Tensor]:
    """The tensors of a random CameraCtrl file for the motion model with the tensors ``motion``, under the published names."""
    control = pack.submodule("motion_models.adapters.camera_control")
    spec, _ = pack.submodule("motion_models.files.motion_model").interpret("motion", motion, {})
    merges = {name.replace(".", "/"): channels for name, (_, channels) in control.merging_attentions(spec).items()}
    network = control.CameraControl(spec.levels, frames, merges)
    randomise(network, seed)
    merge = re.compile(r"merges\.(.*)\.(weight|bias)")
    return {
        merge.sub(r"\1.processor.qkv_merge.\2", name).replace("/", ".").removeprefix("encoder."): value
        for name, value in network.state_dict().items()
    }


def image_encoder_tensors(pack, motion: dict, seed: int = 5) -> dict[str, torch.Tensor]:
    """The tensors of a random AnimateLCM-I2V file made of the motion model ``motion``."""
    spec, _ = pack.submodule("motion_models.files.motion_model").interpret("motion", motion, {})
    encoder = pack.submodule("motion_models.adapters.image_encoder").ImageEncoder(4, spec.levels)
    randomise(encoder, seed)
    tableless = {name: value for name, value in motion.items() if not name.endswith(".pe")}
    return tableless | {f"img_encoder.{name}": value for name, value in encoder.state_dict().items()}


def image_input_tensors(channels: int = 9, width: int = WIDTH, seed: int = 5) -> dict[str, torch.Tensor]:
    """What a PIA file has beside its motion model: the UNet's first convolution, with channels for a picture."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "conv_in.weight": torch.randn(width, channels, 3, 3, generator=generator) * (9 * channels) ** -0.5,
        "conv_in.bias": torch.randn(width, generator=generator),
    }


def fps_and_motion_tensors(width: int = WIDTH, seed: int = 6) -> dict[str, torch.Tensor]:
    """What a FancyVideo file has beside that and its entry ``FancyVideo``."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{name}_embedding.linear.{part}": torch.randn(*shape, generator=generator) * width**-0.5
        for name in ("fps", "motion")
        for part, shape in (("weight", (4 * width, width)), ("bias", (4 * width,)))
    }


def motion_ctrl_tensors(motion: dict, seed: int = 5) -> dict[str, torch.Tensor]:
    """The tensors of a random MotionCtrl camera file for the motion model ``motion``."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, weight in motion.items():
        if name.endswith("attention_blocks.0.to_q.weight"):
            width = len(weight)
            layer = name.replace("attention_blocks.0.to_q.weight", "cc_projection")
            noise = torch.randn(width, width + 12, generator=generator) * 0.1 * width**-0.5
            tensors[f"module.{layer}.weight"] = noise + torch.eye(width, width + 12)
            tensors[f"module.{layer}.bias"] = torch.zeros(width)
    return tensors


@pytest.fixture
def new_motion_file(pack, tmp_path):
    """Write a motion model for a layout of blocks; returns the path."""

    def new(layout: dict = SD15, name: str = "tiny", **options) -> str:
        import safetensors.torch

        path = str(tmp_path / f"{name}.safetensors")
        safetensors.torch.save_file(motion_model_tensors(pack, layout, name, **options), path)
        return path

    return new


@pytest.fixture
def new_motion(pack, new_motion_file):
    """Load a tiny motion model: MOTION_MODEL_ADE."""
    return lambda *args, **changes: pack.submodule("motion_models.files.motion_model").load_motion_model(
        new_motion_file(*args, **changes)
    )


@pytest.fixture
def animate(pack):
    """`animate(model, motion_model, percent range or scale or effect as keywords)`: a MODEL that samples with it."""
    motion = pack.submodule("sampling.motion.applied")

    def make(model, *motion_models, beta_schedule="autoselect", **settings):
        applied = ()
        for motion_model in motion_models:
            applied = motion.apply(motion_model, motion.MotionSettings(**settings), applied)
        return pack.submodule("sampling.evolved").animate(model, applied, beta_schedule)

    return make


def cond(seed: int, **options) -> list:
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(1, 7, CONTEXT, generator=generator), {"pooled_output": None, **options}]]


@pytest.fixture
def positive() -> list:
    return cond(1)


@pytest.fixture
def negative() -> list:
    return cond(2)


@pytest.fixture
def new_cond():
    return cond


@pytest.fixture
def sample(positive, negative):
    """Sample a clip with the host's sampler; returns its latents. ``noise`` is drawn from a seed unless it is given."""

    def run(model, frames=4, steps=3, cfg=7.5, sampler="euler", size=8, conds=None, noise=None, latent=None, **options):
        import comfy.sample

        if noise is None:
            noise = torch.randn((frames, 4, size, size), generator=torch.Generator().manual_seed(3))
        if latent is None:
            latent = torch.zeros_like(noise)
        conds = conds or (positive, negative)
        with torch.inference_mode():
            return comfy.sample.sample(
                model, noise, steps, cfg, sampler, "normal", *conds, latent, disable_pbar=True, seed=3, **options
            )

    return run


@pytest.fixture
def alike_in_one_batch(pack):
    """`check(MODEL of contexts, clip of a MODEL, contexts)`: windows one by one and together give the same clip, to 1e-5."""
    with_windows_at_once = pack.submodule("sampling.windows.context").with_windows_at_once

    def check(model_of, clip_of, contexts, at_once: int = 2):
        def clip(count: int):
            model = model_of(with_windows_at_once(contexts, count)).clone()
            calls = []

            def wrapper(apply_model, arguments):
                calls.append(arguments["input"].shape)
                return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

            model.set_model_unet_function_wrapper(wrapper)
            return clip_of(model), calls

        (apart, calls_apart), (together, calls_together) = clip(1), clip(at_once)
        assert len(calls_together) < len(calls_apart)
        assert sum(shape[0] for shape in calls_together) == sum(shape[0] for shape in calls_apart)
        assert torch.isfinite(apart).all()
        error = float((together - apart).norm() / apart.norm())
        assert error < 1e-5, error
        return apart

    return check


LORA_RANK = 4
OLD_NAMES = re.compile(r"\.(to_[qkv]|to_out)(?:\.0)?\.weight$")


@pytest.fixture
def lora_nodes(pack):
    return pack.submodule("nodes.lora")


@pytest.fixture
def folder(host_path):
    """Folders below the host's models folder, emptied afterwards."""
    import folder_paths

    made = []

    def get(key: str) -> str:
        path = os.path.join(folder_paths.models_dir, key)
        os.makedirs(path, exist_ok=True)
        made.append((path, set(os.listdir(path))))
        return path

    yield get
    for path, before in made:
        for name in set(os.listdir(path)) - before:
            left = os.path.join(path, name)
            shutil.rmtree(left) if os.path.isdir(left) else os.remove(left)


@pytest.fixture
def new_lora_file(folder):
    """Write a MotionLoRA for a motion model, in AnimateDiff's layout; returns the file's name."""

    def new(motion_model, name: str = "lora", seed: int = 7, size: float = 0.5) -> str:
        import safetensors.torch

        generator = torch.Generator().manual_seed(seed)
        tensors = {}
        for key, weight in motion_model.model.state_dict().items():
            if "attention_blocks" in key and OLD_NAMES.search(key):
                out, width = weight.shape
                key = OLD_NAMES.sub(r".processor.\1_lora", key)
                tensors[f"{key}.down.weight"] = torch.randn(LORA_RANK, width, generator=generator) * size * width**-0.5
                tensors[f"{key}.up.weight"] = torch.randn(out, LORA_RANK, generator=generator) * size
        safetensors.torch.save_file(tensors, os.path.join(folder("animatediff_motion_lora"), f"{name}.safetensors"))
        return f"{name}.safetensors"

    return new
