"""The examples that move a camera and start from a picture, in a real server on the toy world with random encoders."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from animatediff_dev_examples import in_toyworld
from PIL import Image
from safetensors.torch import load_file, save_file

WIDTH, FRAMES = 320, 6  # of the toy world's one level; of the pose encoder's tables


def random_tensors(shapes: dict[str, tuple[int, ...]], size: float) -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(1)
    tensors = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=chance)
        one = "norm" in name and name.endswith("weight")
        tensors[name] = torch.ones(shape) if one else value * size * math.prod(shape[1:]) ** -0.5
    return tensors


def with_biases(layers: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.{kind}": shape if kind == "weight" else shape[:1]
        for name, shape in layers.items()
        for kind in ("weight", "bias")
    }


def blocks(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.block1": (WIDTH, WIDTH, 3, 3), f"{name}.block2": (WIDTH, WIDTH, 1, 1)}


def camera_file(motion: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    attention = "encoder_down_attention_blocks.0"
    layers = {"encoder_conv_in": (WIDTH, 384, 3, 3)}
    bare = {}
    for j in range(2):
        layers |= blocks(f"encoder_down_conv_blocks.0.{j}")
        layers |= {f"{attention}.{j}.norms.0": (WIDTH,), f"{attention}.{j}.ff_norm": (WIDTH,)}
        layers |= {
            f"{attention}.{j}.ff.net.0.proj": (8 * WIDTH, WIDTH),
            f"{attention}.{j}.ff.net.2": (WIDTH, 4 * WIDTH),
        }
        layers[f"{attention}.{j}.attention_blocks.0.to_out.0"] = (WIDTH, WIDTH)
        bare |= {f"{attention}.{j}.attention_blocks.0.to_{each}.weight": (WIDTH, WIDTH) for each in "qkv"}
        bare[f"{attention}.{j}.attention_blocks.0.pos_encoder.pe"] = (1, FRAMES, WIDTH)
    for name in motion:
        if name.endswith("attention_blocks.0.to_q.weight") and not name.startswith("mid"):
            layers[name.replace("to_q.weight", "processor.qkv_merge")] = (WIDTH, WIDTH)
    return random_tensors({**with_biases(layers), **bare}, 1.0)


def encoder_file(motion: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    layers = {"conv_in": (WIDTH, 4, 3, 3), **blocks("body.0"), **blocks("body.1")}
    encoder = {f"img_encoder.{name}": value for name, value in random_tensors(with_biases(layers), 0.5).items()}
    return {name: value for name, value in motion.items() if not name.endswith(".pe")} | encoder


def pia_file(motion: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return motion | random_tensors(with_biases({"conv_in": (WIDTH, 9, 3, 3)}), 1.0)


def sparse_ctrl_file() -> dict[str, torch.Tensor]:
    """Of diffusers' own network, for a UNet as the toy world's."""
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers: pip install diffusers")
    torch.manual_seed(1)
    network = diffusers.SparseControlNetModel(
        down_block_types=("CrossAttnDownBlockMotion",),
        block_out_channels=(WIDTH,),
        layers_per_block=1,
        cross_attention_dim=768,
        conditioning_channels=4,
    )
    for name, value in network.named_parameters():
        if "controlnet_" in name:  # which begin with zeros
            torch.nn.init.normal_(value, std=0.1)
    return network.state_dict()


@pytest.fixture(scope="module")
def server(new_server, host, toyworld_models):
    with new_server(host, models=[toyworld_models]) as server:
        motion = load_file(toyworld_models / "animatediff_models" / "toyworld.safetensors")
        folder = server.run / "models" / "animatediff_models"
        folder.mkdir(parents=True, exist_ok=True)
        for name, tensors in (
            ("camera", camera_file(motion)),
            ("i2v", encoder_file(motion)),
            ("pia", pia_file(motion)),
        ):
            save_file(
                {key: value.half().contiguous() for key, value in tensors.items()}, folder / f"{name}.safetensors"
            )
        picture = np.zeros((64, 96, 3), np.uint8)
        picture[16:48, 32:64] = (220, 40, 40)
        (server.run / "input").mkdir(exist_ok=True)
        Image.fromarray(picture).save(server.run / "input" / "example.png")
        yield server


def clip(server, name: str, **changes) -> np.ndarray:
    """``(frames, height, width, 3)`` of the example's animation, in 0..1."""
    prompt = in_toyworld(name, steps=2, sampler_name="euler", **changes)
    for left_out in ("mp4", "video"):
        del prompt[left_out]
    (file,) = (file for file in server.outputs(server.queue(prompt)) if file.suffix == ".webp")
    with Image.open(file) as animation:
        frames = []
        for i in range(animation.n_frames):
            animation.seek(i)
            frames.append(np.asarray(animation.convert("RGB"), np.float32) / 255)
    return np.stack(frames)


def test_the_camera_example(server):
    given = {"camera_ctrl": "camera.safetensors", "batch_size": 16}  # more frames than the random tables have
    there = clip(server, "camera", **given)
    back = clip(server, "camera", **given, speed=-1.0)
    assert len(there) == len(back) == 16
    assert there.std() > 0.01
    assert np.abs(there - back).max() > 0.05
    assert np.array_equal(clip(server, "camera", **given), there)


def test_the_example_that_starts_from_a_picture(server):
    given = {"model_name": "i2v.safetensors", "batch_size": 4}
    with_picture = clip(server, "image_to_video", **given)
    assert len(with_picture) == 4
    assert with_picture.std() > 0.01
    drifting = clip(server, "image_to_video", **given, ref_drift=1.0)
    assert np.abs(with_picture - drifting).max() > 0.05
    assert np.array_equal(clip(server, "image_to_video", **given), with_picture)


def test_the_example_that_animates_a_picture(server):
    given = {"model_name": "pia.safetensors", "batch_size": 4}
    with_picture = clip(server, "pia", **given)
    assert len(with_picture) == 4
    assert with_picture.std() > 0.01
    other = clip(server, "pia", **given, preset="Style Transfer (Large Motion)", batch_index=-1)
    assert np.abs(with_picture - other).max() > 0.05
    assert np.array_equal(clip(server, "pia", **given), with_picture)


def test_the_example_that_is_guided_by_a_picture(server):
    folder = server.run / "models" / "controlnet"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(sparse_ctrl_file(), folder / "sparse.safetensors")
    given = {"control_net_name": "sparse.safetensors", "batch_size": 4}
    guided = clip(server, "sparse_control", **given)
    assert len(guided) == 4
    assert guided.std() > 0.01
    for changes in ({"indexes": "-1"}, {"strength": 0.0}, {"strengths": "0.0: 0.2"}):
        assert np.abs(guided - clip(server, "sparse_control", **given, **changes)).max() > 0.02, changes
    assert np.array_equal(clip(server, "sparse_control", **given), guided)


def test_a_path_outside_is_refused_whether_it_exists_or_not(server, tmp_path):
    (tmp_path / "poses.txt").write_text("title\n" + "0 " * 19)
    told = []
    for name in ("poses.txt", "missing.txt"):
        prompt = in_toyworld("camera", steps=1, batch_size=2, camera_ctrl="camera.safetensors")
        prompt["poses"] = {"class_type": "ADE_LoadCameraPosesFromPath", "inputs": {"file_path": str(tmp_path / name)}}
        with pytest.raises(RuntimeError) as error:
            server.queue(prompt)
        told.append(str(error.value).replace(name, ""))
    assert "is not below ComfyUI's folders" in told[0]
    assert told[0] == told[1]
