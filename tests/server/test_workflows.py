"""Graphs as people have them, one of each kind, in a real server on the toy world: small and in few steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from animatediff_dev_examples import in_toyworld
from PIL import Image
from safetensors.torch import load_file, save_file

SIZE = 64
CHECKPOINT = MOTION = "toyworld.safetensors"
# One level of the toy world's UNet, and three of them: SDXL's depth, at a width that a CPU can sample.
ONE_LEVEL = {"num_res_blocks": [1], "channel_mult": [1], "transformer_depth": [1], "transformer_depth_middle": 1}
THREE_LEVELS = {
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 1, 1],
    "transformer_depth": [0, 1, 1],
    "transformer_depth_output": [0, 0, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
}


@pytest.fixture(scope="module")
def server(new_server, host, host_path, toyworld_models, motion_tensors):
    with new_server(host, models=[toyworld_models]) as server:
        models = server.run / "models"
        motion = load_file(toyworld_models / "animatediff_models" / MOTION)
        files = {
            "controlnet/tiny.safetensors": control_net(),
            "diffusion_models/three_levels.safetensors": unet(),
            "animatediff_models/hotshot.safetensors": motion_tensors(
                (320,) * 3, 1, False, 2, layout="HotshotXL", table=8
            ),
            # AnimateLCM's files hold no position tables
            "animatediff_models/lcm.safetensors": {k: v for k, v in motion.items() if not k.endswith(".pe")},
        }
        for name, tensors in files.items():
            path = models / name
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({key: value.half().contiguous() for key, value in tensors.items()}, path)
        yield server


@pytest.fixture(scope="module")
def motion_tensors() -> Callable:
    """Tensors of a motion model in HotshotXL's names, small enough that the picture survives them."""

    def build(levels, down, mid, up, layout, table):
        chance = torch.Generator().manual_seed(2)
        places = [("down_blocks", i, j) for i in range(len(levels)) for j in range(down)]
        places += [("up_blocks", i, j) for i in range(len(levels)) for j in range(up)]
        tensors = {}
        for part, level, module in places:
            c = levels[level]
            prefix = f"{part}.{level}.temporal_attentions.{module}."
            block = f"{prefix}transformer_blocks.0."
            shapes = {
                f"{prefix}norm": (c,),
                f"{prefix}proj_in": (c, c),
                f"{prefix}proj_out": (c, c),
                f"{block}ff_norm": (c,),
            }
            shapes |= {f"{block}ff.net.0.proj": (8 * c, c), f"{block}ff.net.2": (c, 4 * c)}
            for i in (0, 1):
                attention = f"{block}attention_blocks.{i}."
                shapes |= {f"{attention}to_out.0": (c, c), f"{block}norms.{i}": (c,)}
                for name in ("to_q", "to_k", "to_v"):
                    tensors[f"{attention}{name}.weight"] = torch.randn(c, c, generator=chance) * c**-0.5
                tensors[f"{attention}pos_encoder.positional_encoding"] = (
                    torch.randn(1, table, c, generator=chance) * 0.5
                )
            for name, shape in shapes.items():
                linear = len(shape) > 1
                weight = torch.randn(shape, generator=chance) * shape[-1] ** -0.5 if linear else torch.ones(shape)
                tensors[f"{name}.weight"] = weight * (0.1 if "proj_out" in name else 1.0)
                tensors[f"{name}.bias"] = torch.zeros(shape[0])
        return tensors

    return build


def randomised(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights that keep the size of what goes through."""
    chance = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=chance) * 0.5 * parameter[0].numel() ** -0.5
        else:
            parameter.data = torch.full_like(parameter, 1.0 if "weight" in name else 0.0)
    return network.state_dict()


def control_net() -> dict[str, torch.Tensor]:
    """A ControlNet for the toy world's UNet, as files of lllyasviel's ControlNets name its tensors."""
    from comfy.cldm.cldm import ControlNet

    network = ControlNet(
        image_size=32, in_channels=4, hint_channels=3, model_channels=320, num_heads=8, use_spatial_transformer=True,
        context_dim=768, legacy=False, **ONE_LEVEL,
    )  # fmt: skip
    tensors = randomised(network)
    for key, value in tensors.items():
        if key.startswith("input_hint_block") and value.ndim > 1:
            value *= 3  # the hint goes through eight layers without norms: what is left of it has to be seen
    return {f"control_model.{key}": value for key, value in tensors.items()}


def unet() -> dict[str, torch.Tensor]:
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    network = UNetModel(
        image_size=32, in_channels=4, out_channels=4, model_channels=320, num_heads=8, use_spatial_transformer=True,
        context_dim=768, legacy=False, **THREE_LEVELS,
    )  # fmt: skip
    return randomised(network)


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def text_to_clip(model: list, frames: int, nodes: dict, **changes) -> dict:
    """A graph around ``nodes``, which make the MODEL: checkpoint, prompts, KSampler, decoded and saved."""
    sampling = {"seed": 5, "steps": 3, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    graph = {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "positive": node("CLIPTextEncode", text="a red circle", clip=["checkpoint", 1]),
        "negative": node("CLIPTextEncode", text="", clip=["checkpoint", 1]),
        "latent": node("EmptyLatentImage", width=SIZE, height=SIZE, batch_size=frames),
        "sampler": node(
            "KSampler",
            **{
                "model": model,
                "positive": ["positive", 0],
                "negative": ["negative", 0],
                "latent_image": ["latent", 0],
                **sampling,
                **changes,
            },
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="workflow"),
    }
    return {**graph, **nodes}


def gen2(*, motion: str = MOTION, beta_schedule: str = "autoselect", apply: dict | None = None, **use) -> dict:
    """Load, Apply and Use Evolved Sampling."""
    return {
        "motion": node("ADE_LoadAnimateDiffModel", model_name=motion),
        "apply": node("ADE_ApplyAnimateDiffModel", motion_model=["motion", 0], start_percent=0.0, end_percent=1.0, **(apply or {})),
        "use": node(
            "ADE_UseEvolvedSampling", model=["checkpoint", 0], beta_schedule=beta_schedule, m_models=["apply", 0], **use
        ),
    }  # fmt: skip


def context(kind: str, length: int = 16, overlap: int = 4, **more) -> dict:
    """A context node with its widgets as a workflow file stores them."""
    widgets = {
        "context_length": length,
        "context_overlap": overlap,
        "fuse_method": "pyramid",
        "use_on_equal_length": False,
    }
    widgets |= {"start_percent": 0.0, "guarantee_steps": 1}
    if kind != "StandardStatic":
        widgets["context_stride"] = 1
    if kind == "LoopedUniform":
        widgets["closed_loop"] = True
    return node(f"ADE_{kind}ContextOptions", **{**widgets, **more})


def frames_of(server, graph: dict) -> np.ndarray:
    """``(frames, height, width, 3)`` in 0..1."""
    files = server.outputs(server.queue(graph))
    return np.stack([np.asarray(Image.open(file).convert("RGB"), np.float32) / 255 for file in files])


def check(server, graph: dict, frames: int) -> np.ndarray:
    """A clip of ``frames`` frames, none of them black or all alike (NaN comes out black)."""
    clip = frames_of(server, graph)
    assert clip.shape == (frames, SIZE, SIZE, 3)
    assert (clip.std(axis=(1, 2, 3)) > 0.01).all()
    assert np.abs(np.diff(clip, axis=0)).mean() > 0
    return clip


def test_gen1_with_uniform_context_and_control_net(server):
    graph = text_to_clip(
        ["animated", 0],
        20,
        {
            "context": context("StandardUniform"),
            "animated": node(
                "ADE_AnimateDiffLoaderGen1",
                model=["checkpoint", 0],
                model_name=MOTION,
                beta_schedule="autoselect",
                context_options=["context", 0],
            ),
            "black": node("EmptyImage", width=SIZE, height=SIZE, batch_size=10, color=0),
            "white": node("EmptyImage", width=SIZE, height=SIZE, batch_size=10, color=0xFFFFFF),
            "hints": node("ImageBatch", image1=["black", 0], image2=["white", 0]),
            "net": node("ControlNetLoader", control_net_name="tiny.safetensors"),
            "control": node(
                "ControlNetApplyAdvanced",
                positive=["positive", 0],
                negative=["negative", 0],
                control_net=["net", 0],
                image=["hints", 0],
                strength=0.3,
                start_percent=0.0,
                end_percent=1.0,
            ),
        },
        positive=["control", 0],
        negative=["control", 1],
    )
    controlled = check(server, graph, 20)
    graph["hints"]["inputs"] |= {"image1": ["white", 0], "image2": ["white", 0]}
    changed = np.abs(frames_of(server, graph) - controlled).mean(axis=(1, 2, 3))
    # the frames whose hints changed are those that look different
    assert changed[:10].mean() > changed[10:].mean()


def test_gen2_with_looped_context_motion_lora_and_sampling_settings(server):
    nodes = {
        **gen2(
            apply={"motion_lora": ["lora", 0], "scale_multival": ["scale", 0], "ad_keyframes": ["keyframe", 0]},
            context_options=["context", 0],
            sample_settings=["settings", 0],
        ),
        "lora": node("ADE_AnimateDiffLoRALoader", name="toyworld-right.safetensors", strength=0.8),
        "scale": node("ADE_MultivalDynamic", float_val=1.1),
        "keyframe": node(
            "ADE_AnimateDiffKeyframe",
            start_percent=0.5,
            effect_multival=["half", 0],
            inherit_missing=True,
            guarantee_steps=1,
        ),
        "half": node("ADE_MultivalDynamic", float_val=0.9),
        "context": context("LoopedUniform"),
        "iterations": node(
            "ADE_IterationOptsFreeInit",
            iterations=2,
            filter="butterworth",
            d_s=0.25,
            d_t=0.25,
            n_butterworth=4,
            sigma_step=999,
            apply_to_1st_iter=False,
            init_type="FreeInit [sampler sigma]",
        ),
        "cfg": node("ADE_CustomCFGSimple", cfg=2.5),
        "settings": node(
            "ADE_AnimateDiffSamplingSettings",
            batch_offset=0,
            noise_type="FreeNoise",
            seed_gen="comfy",
            seed_offset=0,
            adapt_denoise_steps=False,
            iteration_opts=["iterations", 0],
            custom_cfg=["cfg", 0],
        ),
    }
    check(server, text_to_clip(["use", 0], 20, nodes), 20)


def test_video_to_video(server):
    """The clip of a first sampler as the video; at denoise 0.6 what comes out depends on it."""
    graph = text_to_clip(["use", 0], 8, gen2())
    again = {"latent_image": ["encode", 0], "denoise": 0.6, "seed": 6}
    graph |= {
        "grey": node("EmptyImage", width=SIZE, height=SIZE, batch_size=8, color=0x808080),
        "encode": node("VAEEncode", pixels=["decode", 0], vae=["checkpoint", 2]),
        "again": node("KSampler", **{**graph["sampler"]["inputs"], **again}),
        "decoded": node("VAEDecode", samples=["again", 0], vae=["checkpoint", 2]),
    }
    graph["save"]["inputs"]["images"] = ["decoded", 0]
    changed = check(server, graph, 8)
    graph["encode"]["inputs"]["pixels"] = ["grey", 0]
    assert np.abs(check(server, graph, 8) - changed).mean() > 0.01


def test_lcm(server):
    """autoselect knows an AnimateLCM model by its lack of position tables."""
    lcm = {"sampler_name": "lcm", "scheduler": "sgm_uniform", "steps": 4, "cfg": 1.0}
    check(server, text_to_clip(["use", 0], 8, gen2(motion="lcm.safetensors"), **lcm), 8)
    assert "lcm: AnimateLCM" in server.log()


def test_hotshotxl(server):
    """Its tensor names and eight positions on a UNet of three levels, as SDXL's has; a real SDXL is too large here."""
    nodes = gen2(
        motion="hotshot.safetensors", beta_schedule="linear (HotshotXL/default)", context_options=["context", 0]
    )
    nodes["context"] = context("StandardStatic", 8, 4)
    nodes["unet"] = node("UNETLoader", unet_name="three_levels.safetensors", weight_dtype="default")
    nodes["use"]["inputs"]["model"] = ["unet", 0]
    check(server, text_to_clip(["use", 0], 12, nodes), 12)
    assert "hotshot: HotshotXL" in server.log()
    del nodes["use"]["inputs"]["context_options"], nodes["context"]
    with pytest.raises(RuntimeError, match=r"12 frames.*'hotshot' handles at most 8.*Context Options"):
        server.queue(text_to_clip(["use", 0], 12, nodes))


def example(name: str, left_out: tuple[str, ...] = ("video", "mp4"), **changes) -> dict:
    """An example workflow on the toy world, in few steps, that saves its frames as pictures."""
    graph = in_toyworld(name, **{"steps": 2, "cfg": 2.0, **changes})
    for node_name in left_out:
        del graph[node_name]
    return {**graph, "webp": node("SaveImage", images=["decode", 0], filename_prefix=name)}


def test_the_example_for_sdxl(server):
    graph = example("sdxl", model_name="hotshot.safetensors")
    graph["unet"] = node("UNETLoader", unet_name="three_levels.safetensors", weight_dtype="default")
    graph["model"]["inputs"]["model"] = ["unet", 0]
    check(server, graph, 16)


def test_the_example_of_few_steps(server):
    check(server, example("few_steps", model_name="lcm.safetensors", cfg=1.0, batch_size=8), 8)


def test_the_example_from_video_to_video(server, toyworld):
    folder = server.run / "input"
    toyworld("videos").write_clips(folder, 1, seed=0)
    (folder / "0000.avi").rename(folder / "video.mp4")
    given = {"control_net_name": "tiny.safetensors", "length": 8, "strength": 0.3}
    graph = example("video_to_video", ("new_video", "mp4", "edges_preview"), **given)
    guided = check(server, graph, 8)
    graph["guided"]["inputs"]["strength"] = 0.0
    assert np.abs(frames_of(server, graph) - guided).mean() > 0.001


def test_two_stages_of_the_advanced_sampler_with_contexts_of_their_own(server):
    nodes = gen2(context_options=["first", 0])
    nodes["use2"] = node("ADE_UseEvolvedSampling", **{**nodes["use"]["inputs"], "context_options": ["second", 0]})
    nodes |= {"first": context("StandardStatic"), "second": context("LoopedUniform", 12)}
    graph = text_to_clip(["use", 0], 20, nodes)
    shared = {
        key: graph["sampler"]["inputs"][key] for key in ("positive", "negative", "cfg", "sampler_name", "scheduler")
    }
    shared |= {"noise_seed": 5, "steps": 4}
    graph["stage1"] = node(
        "KSamplerAdvanced",
        model=["use", 0],
        latent_image=["latent", 0],
        add_noise="enable",
        start_at_step=0,
        end_at_step=2,
        return_with_leftover_noise="enable",
        **shared,
    )
    graph["sampler"] = node(
        "KSamplerAdvanced",
        model=["use2", 0],
        latent_image=["stage1", 0],
        add_noise="disable",
        start_at_step=2,
        end_at_step=10000,
        return_with_leftover_noise="disable",
        **shared,
    )
    check(server, graph, 20)


@pytest.mark.parametrize("advanced", [False, True])
def test_legacy_loaders_pass_the_latent_through(server, advanced):
    inputs = {"model": ["checkpoint", 0], "latents": ["latent", 0], "model_name": MOTION, "unlimited_area_hack": False}
    inputs["beta_schedule"] = "sqrt_linear (AnimateDiff)"
    name = "AnimateDiffLoaderV1"
    if advanced:
        name = "ADE_AnimateDiffLoaderV1Advanced"
        inputs |= {"context_length": 16, "context_stride": 1, "context_overlap": 4, "context_schedule": "uniform"}
        inputs["closed_loop"] = False
    frames = 20 if advanced else 8
    check(server, text_to_clip(["v1", 0], frames, {"v1": node(name, **inputs)}, latent_image=["v1", 1]), frames)


def test_pictures_of_the_windows(server):
    nodes = {
        **gen2(context_options=["context", 0]),
        "context": context("LoopedUniform"),
        "sigmas": node("BasicScheduler", model=["use", 0], scheduler="normal", steps=2, denoise=1.0),
        "windows": node(
            "ADE_VisualizeContextOptionsSCustom",
            model=["use", 0],
            sigmas=["sigmas", 0],
            visual_width=640,
            latents_length=32,
        ),
        "weights": node(
            "AnimateDiffVisualizeFuseWeights",
            model=["use", 0],
            sampler_name="euler",
            scheduler="normal",
            context_opts=["context", 0],
            steps=2,
        ),
        "preview": node("PreviewImage", images=["windows", 0]),
        "map": node("PreviewImage", images=["weights", 0]),
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
    }
    outputs = server.queue(nodes)["outputs"]
    assert len(outputs["preview"]["images"]) == 2 * 3
    assert len(outputs["map"]["images"]) == 1


def test_windows_tied_together_by_context_extras(server):
    """The example workflow, with windows side by side: alone each shows something else."""
    graph = in_toyworld("context_extras", batch_size=16, steps=3, cfg=2.0, seed=5)
    graph["windows"]["inputs"] |= {"context_length": 8, "context_overlap": 0}
    graph["webp"] = node("SaveImage", images=["decode", 0], filename_prefix="context_extras")
    graph["naive_reuse"]["inputs"]["end_percent"] = graph["context_ref"]["inputs"]["end_percent"] = 1.0

    def difference(extras: str | None) -> tuple[np.ndarray, float]:
        """The clip, and how far its second window is from the first."""
        changed = {**graph, "model": node("ADE_UseEvolvedSampling", **graph["model"]["inputs"])}
        changed["model"]["inputs"]["context_options"] = ["windows" if extras is None else "extras", 0]
        changed["extras"] = node("ADE_ContextExtras_Set", context_opts=["windows", 0], context_extras=[extras, 0])
        clip = check(server, changed, 16)
        return clip, float(np.abs(clip[8:] - clip[:8]).mean())

    plain, apart = difference(None)
    looking, _ = difference("context_ref")
    assert np.array_equal(looking[:8], plain[:8])  # the first window looks at none
    assert np.abs(looking[8:] - plain[8:]).mean() > 0.003
    both, together = difference("naive_reuse")
    print(f"the second window differs from the first by {together:.4f}, without extras by {apart:.4f}")
    assert together < apart / 2
    assert np.abs(both[8:] - looking[8:]).mean() > 0.003


def test_an_injected_picture_comes_through(server):
    """The example workflow, with the toy world's own VAE; and without its picture."""
    colour = np.array([0.1, 0.6, 0.2])
    Image.new("RGB", (SIZE, SIZE), tuple((colour * 255).astype(int))).save(server.run / "input" / "picture.png")
    distances = []
    for connected in (True, False):
        graph = in_toyworld(
            "image_injection", image="picture.png", batch_size=4, steps=8, start_percent=0.8, float_val=1.0
        )
        graph["positive"]["inputs"]["text"] = "a red circle"
        graph["webp"] = node("SaveImage", images=["decode", 0], filename_prefix="image_injection")
        del graph["video"], graph["mp4"]
        if not connected:
            del graph["settings"]["inputs"]["image_inject"]
        files = server.outputs(server.queue(graph))
        frames = np.stack([np.asarray(Image.open(file).convert("RGB"), np.float64) / 255 for file in files])
        assert len(frames) == 4
        distances.append(abs(frames.mean((0, 1, 2)) - colour).max())
    assert distances[0] < 0.8 * distances[1]


MOST_SEAM, SAME_DIRECTION = 1.3, 0.8


def long_clip(prompts, seed: int) -> dict:
    """The example workflow for long clips, as the toy world is sampled."""
    graph = in_toyworld("long_clip", **prompts.SAMPLING, seed=seed)
    graph["positive"]["inputs"]["text"] = "a red circle"
    graph["negative"]["inputs"]["text"] = ""
    graph["webp"] = node("SaveImage", images=["decode", 0], filename_prefix="long_clip")
    return graph


@pytest.mark.long
def test_64_frames_in_windows_go_on_moving_in_one_direction(server, toyworld):
    """On the shipped weights: no seam to be seen, and the shape does not turn back where windows meet."""
    prompts, seams, directions = toyworld("prompts"), [], []
    for seed in (910_001, 910_002):
        graph = long_clip(prompts, seed)
        graph["metrics"] = node("AnimateDiffMetrics", images=["decode", 0], context_length=16, context_overlap=8)
        graph["ratio"] = node("PreviewAny", source=["metrics", 6])
        entry = server.queue(graph)
        seams.append(float(entry["outputs"].pop("ratio")["text"][0]))
        frames = np.stack(
            [np.asarray(Image.open(file).convert("RGB"), np.float32) / 255 for file in server.outputs(entry)]
        )
        track = toyworld("measure").follow(frames)
        assert track is not None, "the shape was not seen in three frames of four"
        steps = track.places[4:] - track.places[:-4]  # over four frames: a pixel of rounding is no direction
        forward = steps @ (track.displacement / np.linalg.norm(track.displacement))
        directions.append(float((forward > 0).mean()))
    print(f"seam ratios {seams}, share of frames that go on in the clip's direction {directions}")
    assert np.mean(seams) <= MOST_SEAM
    assert np.mean(directions) >= SAME_DIRECTION


@pytest.mark.long
def test_a_seamless_loop_jumps_no_further_at_its_end_than_elsewhere(server, toyworld):
    """On the shipped weights, whose training videos all go one way and never come back: in the mean of some clips."""
    prompts, measure, at_the_end, elsewhere = toyworld("prompts"), toyworld("measure"), [], []
    for seed, caption in enumerate(toyworld("scenes").CAPTIONS[:4], 910_001):
        clip = prompts.Clip(caption, seed, loop=True)
        files = server.outputs(server.queue(prompts.sampling_prompt(clip)))
        steps = measure.steps_around([np.asarray(Image.open(file).convert("RGB"), np.float32) / 255 for file in files])
        at_the_end.append(steps[-1])
        elsewhere.append(np.nanmean(steps[:-1]))
    print(f"from the last to the first frame {at_the_end} pixels, from frame to frame {elsewhere}")
    assert np.mean(at_the_end) <= np.mean(elsewhere)
