"""PIA and FancyVideo: presets, files, the UNet's first convolution, nodes and sampling, on tiny networks."""

from __future__ import annotations

import logging
import math
import os

import pytest
import torch
from animatediff_tests_tiny import WIDTH, fps_and_motion_tensors, image_input_tensors
from safetensors.torch import load_file, save_file
from torch.nn import functional

# The curves of likeness, by hand


@pytest.mark.parametrize(
    ("preset", "index", "frames", "expected"),
    [
        ("Animation (Small Motion)", 3, 8, "0.85 0.85 0.9 1 0.9 0.85 0.85 0.85"),
        ("Animation (Small Motion)", -1, 8, "0.8 0.8 0.8 0.85 0.85 0.85 0.9 1"),
        ("Animation (Small Motion)", 100, 3, "0.85 0.9 1"),
        ("Animation (Small Motion)", -100, 3, "1 0.9 0.85"),
        ("Animation (Medium Motion)", 0, 9, "1 0.8 0.8 0.8 0.79 0.78 0.75 0.75 0.75"),
        ("Animation (Large Motion)", 0, 14, "1 0.8 0.7 0.7 0.7 0.7 0.7 0.7 0.7 0.7 0.6 0.5 0.5 0.5"),
        ("Loop (Small Motion)", 0, 15, "1 0.9 0.85 0.85 0.85 0.8 0.8 0.8 0.8 0.8 0.85 0.85 0.85 0.9 1"),
        ("Loop (Medium Motion)", 0, 6, "1 0.8 0.8 0.8 0.8 1"),
        ("Loop (Medium Motion)", 2, 6, "0.8 0.8 1 0.8 0.8 0.8"),
        ("Loop (Large Motion)", 0, 18, "1 0.8 0.7 0.7 0.7 0.7 0.6 0.5 0.5 0.5 0.5 0.6 0.7 0.7 0.7 0.7 0.8 1"),
        ("Loop (Large Motion)", 0, 1, "1"),
        ("Style Transfer (Small Motion)", 0, 7, "0.5 0.4 0.4 0.4 0.35 0.3 0.3"),
        ("Style Transfer (Medium Motion)", 0, 10, "0.5 0.4 0.4 0.4 0.35 0.35 0.3 0.25 0.2 0.2"),
        ("Style Transfer (Large Motion)", 1, 3, "0.2 0.5 0.2"),
    ],
)
def test_presets_say_how_alike_frames_are_to_the_picture(pack, preset, index, frames, expected):
    values = pack.submodule("sampling.adapters.likeness").likeness(preset, index, frames)
    assert values == [float(number) for number in expected.split()]


@pytest.fixture
def nodes(pack):
    """Run a node by its id, as the server does; gives its outputs."""
    found = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}
    return lambda node_id, **inputs: found[node_id].execute(**inputs).result


def test_a_preset_is_multiplied_and_printed(nodes, caplog):
    (made,) = nodes(
        "ADE_InputPIA_PaperPresets",
        preset="Style Transfer (Large Motion)",
        batch_index=0,
        mult_multival=0.5,
        print_values=True,
    )
    with caplog.at_level(logging.INFO):
        assert made.over(3).flatten().tolist() == [0.25, torch.tensor(0.2).item() * 0.5, torch.tensor(0.2).item() * 0.5]
    assert "PIA preset 'Style Transfer (Large Motion)': 0.5, 0.2, 0.2" in caplog.text
    assert nodes("ADE_InputPIA_Multival", multival=0.3)[0].over(5) == 0.3


# Files


@pytest.fixture
def file(new_motion_file, tmp_path, monkeypatch):
    """Write a motion model with more tensors into the models folder; gives its name."""
    import folder_paths

    extensions = {".safetensors", ".ckpt"}
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "animatediff_models", ([str(tmp_path)], extensions))

    def new(more: dict, name: str = "pia", prefix: str = "", mid: bool = False, **options) -> str:
        path = new_motion_file(name=name, mid=mid, **options)
        tensors = {f"{prefix}{key}": value for key, value in (load_file(path) | more).items()}
        save_file(tensors, path)
        return os.path.basename(path)

    return new


@pytest.fixture
def load(nodes, file):
    """A PIA model, or another one with ``more`` tensors, from the ordinary loader."""

    def new(more: dict | None = None, **options):
        name = file(image_input_tensors() if more is None else more, **options)
        return nodes("ADE_LoadAnimateDiffModel", model_name=name)[0]

    return new


@pytest.fixture
def load_fancy(load):
    return lambda more=None, **options: load(
        image_input_tensors() | (fps_and_motion_tensors() if more is None else more) | {"FancyVideo": torch.zeros(1)},
        **{"name": "fancy", **options},
    )


def test_of_the_files_convolution_the_part_beside_the_latents_counts(load, pack):
    tensors = image_input_tensors()
    for options in ({}, {"prefix": "module.", "name": "prefixed"}):
        motion_model = load(tensors, **options)
        assert motion_model.model.spec.layout == "PIA"
        (network,) = pack.submodule("host.patcher").parts(motion_model).values()
        assert {name: value.shape for name, value in network.model.state_dict().items()} == {
            "conv.weight": (WIDTH, 5, 3, 3)
        }
        assert torch.equal(network.model.conv.weight, tensors["conv_in.weight"][:, 4:])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            image_input_tensors(4),
            r"looks like PIA, but its conv_in\.weight has the shape \(32, 4, 3, 3\) in place of \(320, 9, 3, 3\)",
        ),
        ({"conv_in.weight": torch.zeros(32, 9)}, r"its conv_in\.weight has the shape \(32, 9\)"),
        ({"conv_in.weight": torch.zeros(32, 9, 1, 1)}, r"conv\.weight is \(32, 5, 1, 1\), not \(32, 5, 3, 3\)"),
        ({"conv_in.weight": torch.full((32, 9, 3, 3), math.nan)}, r"its tensor conv\.weight holds NaN"),
    ],
)
def test_a_defective_image_input_is_refused(load, changed, message):
    with pytest.raises(ValueError, match=message):
        load(image_input_tensors() | changed)


def test_a_defective_fancy_video_file_is_refused(load_fancy):
    with pytest.raises(ValueError, match=r"tensors are missing \(fps_embedding\.linear\.weight"):
        load_fancy({})


# Sampling


class StandInVae:
    """Gives each 8 x 8 square of a picture its mean colour, and the mean of these, as latents."""

    latent_channels = 4
    decode = None

    def __init__(self):
        self.encoded: list[torch.Tensor] = []

    def spacial_compression_encode(self) -> int:
        return 8

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[-1] == 3
        self.encoded.append(images)
        return self.latents(images)

    @staticmethod
    def latents(images: torch.Tensor) -> torch.Tensor:
        colours = functional.avg_pool2d(images.movedim(-1, 1) * 8 - 4, 8)
        return torch.cat([colours, colours.mean(1, keepdim=True)], dim=1)


@pytest.fixture
def vae():
    return StandInVae()


def pictures(count: int = 1, size: int = 64, seed: int = 11) -> torch.Tensor:
    return torch.rand(count, size, size, 3, generator=torch.Generator().manual_seed(seed))


RANGE = {"start_percent": 0.0, "end_percent": 1.0}


@pytest.fixture
def use(nodes, new_model, vae):
    """A MODEL with a motion model applied: by PIA's or FancyVideo's node where there are pictures, else by the plain node."""

    def make(motion_model, image=None, model=None, context=None, node="ADE_ApplyAnimateDiffModelWithPIA", **inputs):
        more = {} if image is None else {"image": image, "vae": vae}
        node = "ADE_ApplyAnimateDiffModel" if image is None else node
        applied = nodes(node, motion_model=motion_model, **more, **{**RANGE, **inputs})[0]
        more = {} if context is None else {"context_options": context}
        return nodes(
            "ADE_UseEvolvedSampling", model=model or new_model(), m_models=applied, beta_schedule="autoselect", **more
        )[0]

    return make


@pytest.fixture
def use_fancy(use):
    def make(motion_model, image, fps=25.0, motion_score=3.0, **inputs):
        more = {"node": "AnimateDiffApplyFancyVideo", "fps": fps, "motion_score": motion_score}
        return use(motion_model, image, **more, **inputs)

    return make


def seen(model, sample, **options) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Of each UNet call: what goes into the first convolution, what comes out of it, and the embedding of the time step."""
    from comfy.patcher_extension import WrappersMP

    calls = []

    def around(executor, x, *args, **kwargs):
        calls.append([x])
        return executor(x, *args, **kwargs)

    def behind(h, transformer_options):
        if transformer_options["block"][1] == 0:
            calls[-1].append(h)
        return h

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", around)
    model.set_model_input_block_patch(behind)
    unet = model.model.diffusion_model
    hook = unet.input_blocks[1][0].register_forward_pre_hook(lambda layer, args: calls[-1].append(args[1]))
    try:
        sample(model, **options)
    finally:
        hook.remove()
    return [tuple(call) for call in calls]


def first_convolution(model, tensors: dict, x: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
    """In float64: one convolution over latents and what is beside them, its first channels and bias the checkpoint's."""
    own = model.model.diffusion_model.input_blocks[0][0]
    weight = torch.cat([own.weight.double(), tensors["conv_in.weight"].double()[:, 4:]], dim=1)
    clips = len(x) // len(beside)
    both = torch.cat([x.double(), beside.double().repeat(clips, 1, 1, 1)], dim=1)
    return functional.conv2d(both, weight, own.bias.double(), padding=1)


def beside(images: torch.Tensor, mask) -> torch.Tensor:
    """``mask``: a number for each frame, or a mask ``(frames, height, width)``; ``images``: one for each frame."""
    latents = StandInVae.latents(images) * 0.18215
    mask = mask if isinstance(mask, torch.Tensor) else torch.tensor(mask).view(-1, 1, 1).expand(-1, *latents.shape[2:])
    return torch.cat([mask[:, None], latents], dim=1)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert (found.double() - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_the_unet_sees_the_picture_and_how_alike_each_frame_shall_be(load, use, sample, nodes, vae):
    model = use(
        load(),
        pictures(),
        pia_input=nodes("ADE_InputPIA_PaperPresets", preset="Animation (Small Motion)", batch_index=1)[0],
    )
    calls = seen(model, sample, frames=5, steps=2)
    assert len(calls) == 2
    expected = beside(pictures().repeat(5, 1, 1, 1), [0.9, 1.0, 0.9, 0.85, 0.85])
    for x, h, _ in calls:
        assert x.shape[1] == 4  # the checkpoint's own layer is not altered
        close(h, first_convolution(model, image_input_tensors(), x, expected))
    assert [images.shape for images in vae.encoded] == [(1, 64, 64, 3)]


def test_of_several_pictures_each_is_for_one_frame_and_the_last_serves_the_rest(load, use, sample):
    model = use(load(), pictures(3))
    for frames, chosen in ((5, [0, 1, 2, 2, 2]), (2, [0, 1])):
        ((x, h, _),) = seen(model, sample, frames=frames, steps=1)
        close(h, first_convolution(model, image_input_tensors(), x, beside(pictures(3)[chosen], [1.0] * frames)))


def test_pictures_of_another_size_are_cropped_to_the_clip(load, use, sample, vae):
    wide = torch.rand(1, 64, 128, 4, generator=torch.Generator().manual_seed(2))
    model = use(load(), wide)
    ((x, h, _),) = seen(model, sample, steps=1)
    close(
        h,
        first_convolution(model, image_input_tensors(), x, beside(wide[:, :, 32:96, :3].repeat(4, 1, 1, 1), [1.0] * 4)),
    )
    assert torch.isfinite(sample(model, size=9)).all()


def test_windows_see_the_pictures_and_likeness_of_their_frames(load, use, sample, nodes):
    context = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=1)[0]
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    mask = nodes("ADE_MultivalDynamicFloats", floats=values)[0]
    model = use(load(), pictures(7), context=context, pia_input=nodes("ADE_InputPIA_Multival", multival=mask)[0])
    calls = seen(model, sample, frames=7, steps=2)
    for (x, h, _), window in zip(calls, [[0, 1, 2, 3], [3, 4, 5, 6]] * 2, strict=True):
        expected = beside(pictures(7)[window], [values[frame] for frame in window])
        close(h, first_convolution(model, image_input_tensors(), x, expected))


def test_keyframes_change_likeness_and_effect_weighs_all(load, use, sample, nodes, vae):
    def keyframe(start, value, previous=None, effect=None):
        more = {} if previous is None else {"prev_ad_keyframes": previous}
        more |= {} if effect is None else {"effect_multival": effect}
        given = nodes("ADE_InputPIA_Multival", multival=value)[0]
        return nodes("ADE_PIA_AnimateDiffKeyframe", start_percent=start, pia_input=given, **more)[0]

    picture = torch.linspace(0, 1, 64).view(1, 8, 8)
    keyframes = keyframe(0.5, 0.5, keyframe(0.0, picture), effect=0.5)
    model = use(
        load(),
        pictures(),
        ad_keyframes=keyframes,
        pia_input=nodes("ADE_InputPIA_Multival", multival=0.8)[0],
        effect_multival=0.5,
    )
    calls = seen(model, sample, steps=2)
    first = beside(pictures().repeat(4, 1, 1, 1), (picture * 0.8).expand(4, -1, -1)) * 0.5
    second = beside(pictures().repeat(4, 1, 1, 1), [0.4] * 4) * 0.25
    for (x, h, _), expected in zip(calls, (first, second), strict=True):
        close(h, first_convolution(model, image_input_tensors(), x, expected))
    assert len(vae.encoded) == 1


def test_outside_of_its_range_and_at_effect_0_the_unet_is_as_it_was(load, use, sample, new_model):
    motion_model, plain = load(), new_model()
    for options, acting in (
        ({"end_percent": 0.5}, [True, False]),
        ({"start_percent": 0.5}, [False, True]),
        ({"effect_multival": 0.0}, [False, False]),
    ):
        model = use(motion_model, pictures(), model=plain, **options)
        for (x, h, _), acts in zip(seen(model, sample, steps=2), acting, strict=True):
            without = functional.conv2d(x, *plain.model.diffusion_model.input_blocks[0][0].parameters(), padding=1)
            assert torch.allclose(h, without, rtol=1e-5, atol=1e-5) is not acts


def test_runs_do_not_see_each_other(load, use, sample, new_motion):
    motion_model = load()
    plain, with_picture = use(motion_model), use(motion_model, pictures())
    before, first = sample(plain), sample(with_picture)
    assert not torch.allclose(first, before, rtol=0.1)
    assert torch.equal(sample(plain), before)
    assert torch.equal(sample(with_picture), first)
    assert torch.equal(sample(with_picture.clone().clone()), first)
    assert not torch.allclose(sample(use(motion_model, pictures(seed=12))), first, rtol=0.1)
    assert not plain.get_additional_models_with_key("AnimateDiff.adapters")
    assert (
        "patches" not in plain.model_options["transformer_options"]
        or "input_block_patch" not in (plain.model_options["transformer_options"]["patches"])
    )


def test_an_interrupted_run_leaves_nothing(load, use, sample, new_model):
    model = new_model()
    with_picture = use(load(), pictures(), model=model)
    before = sample(model)
    unet = model.model.diffusion_model
    keys = list(unet.state_dict())

    def stop(*_):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        sample(with_picture, callback=stop)
    assert list(unet.state_dict()) == keys
    assert torch.equal(sample(model), before)


def test_a_picture_is_encoded_once_for_all_iterations(load, use, sample, nodes, vae, new_model):
    iterations = nodes("ADE_IterationOptsDefault", iterations=3)[0]
    settings = nodes(
        "ADE_AnimateDiffSamplingSettings",
        batch_offset=0,
        noise_type="default",
        seed_gen="comfy",
        seed_offset=0,
        iteration_opts=iterations,
    )[0]
    applied = nodes("ADE_ApplyAnimateDiffModelWithPIA", motion_model=load(), image=pictures(), vae=vae, **RANGE)[0]
    model = nodes(
        "ADE_UseEvolvedSampling",
        model=new_model(),
        m_models=applied,
        beta_schedule="autoselect",
        sample_settings=settings,
    )[0]
    sample(model, steps=2)
    assert len(vae.encoded) == 1
    sample(model, steps=2)
    assert len(vae.encoded) == 2


def test_a_cond_for_an_area_sees_its_part_of_the_picture(load, use, sample, new_cond):
    model = use(load(), pictures())
    area = new_cond(3, area=(4, 8, 4, 0), strength=1.0)  # the lower half
    calls = seen(model, sample, steps=1, conds=(new_cond(1) + area, new_cond(2)))
    whole = beside(pictures().repeat(4, 1, 1, 1), [1.0] * 4)
    halves = 0
    for x, h, _ in calls:
        own = whole if x.shape[2] == 8 else whole[:, :, 4:]
        halves += x.shape[2] == 4
        close(h, first_convolution(model, image_input_tensors(), x, own))
    assert halves == 1


def test_an_inpainting_checkpoint_keeps_its_own_channels(load, use, sample, new_model):
    """Its first convolution has nine inputs already."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models
    from animatediff_tests_tiny import SD15, TINY, randomise

    config = comfy.supported_models.SD15({**TINY, **SD15, "in_channels": 9})
    network = comfy.model_base.BaseModel(config)
    network.set_inpaint()
    randomise(network, 0)
    cpu = torch.device("cpu")
    inpainting = comfy.model_patcher.ModelPatcher(network.eval().requires_grad_(False), cpu, cpu)
    model = use(load(), pictures(), model=inpainting)
    ((x, h, _),) = seen(model, sample, steps=1)
    assert x.shape[1] == 9
    conv = network.diffusion_model.input_blocks[0][0]
    expected = functional.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    more = beside(pictures().repeat(4, 1, 1, 1), [1.0] * 4).repeat(len(x) // 4, 1, 1, 1).double()
    close(h, expected + functional.conv2d(more, image_input_tensors()["conv_in.weight"][:, 4:].double(), padding=1))


def test_two_motion_models_see_a_picture_each(load, use, sample, nodes, vae, new_model):
    first = nodes("ADE_ApplyAnimateDiffModelWithPIA", motion_model=load(), image=pictures(), vae=vae, **RANGE)[0]
    other = load(image_input_tensors(seed=9), name="other", seed=4)
    model = use(other, pictures(seed=12), prev_m_models=first)
    ((x, h, _),) = seen(model, sample, steps=1)
    one = first_convolution(model, image_input_tensors(), x, beside(pictures().repeat(4, 1, 1, 1), [1.0] * 4))
    more = beside(pictures(seed=12).repeat(4, 1, 1, 1), [1.0] * 4).repeat(len(x) // 4, 1, 1, 1).double()
    close(h, one + functional.conv2d(more, image_input_tensors(seed=9)["conv_in.weight"][:, 4:].double(), padding=1))


def test_loras_of_the_checkpoints_first_convolution_count(load, use, sample, new_model):

    model = use(load(), pictures())
    patched = model.clone()
    key = "diffusion_model.input_blocks.0.0.weight"
    change = torch.randn(WIDTH, 4, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.3
    assert patched.add_patches({key: ("diff", (change,))}, 1.0)
    ((x, h, _),) = seen(patched, sample, steps=1)
    before = first_convolution(model, image_input_tensors(), x, beside(pictures().repeat(4, 1, 1, 1), [1.0] * 4))
    own = patched.model.diffusion_model.input_blocks[0][0].weight
    if torch.equal(own, patched.get_key_patches()[key][0][0]):  # taken back after the run
        before = before + functional.conv2d(x.double(), change.double(), padding=1)
    close(h, before)


def test_a_node_that_cuts_the_picture_into_tiles_is_told(load, use, sample):
    model = use(load(), pictures()).clone()

    def tiled(apply_model, args):
        return apply_model(args["input"][:, :, :4], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(tiled)
    with pytest.raises(ValueError, match="takes frames or pictures apart"):
        sample(model)


def test_a_pia_model_without_a_picture_is_an_ordinary_motion_model_and_the_log_says_so(
    load, use, sample, nodes, new_model, caplog, tmp_path, file
):

    without = use(load(frames=24))
    assert "'pia' has an image input of PIA, which gets no picture here" in caplog.text
    assert "apply it with Apply AnimateDiff-PIA Model" in caplog.text
    caplog.clear()
    plain = use(load({}, name="plain", frames=24))
    assert caplog.text == ""
    assert torch.equal(sample(without), sample(plain))  # v1, with joint group norm
    name = file(image_input_tensors(), name="again")
    nodes("ADE_AnimateDiffLoaderGen1", model=new_model(), model_name=name, beta_schedule="autoselect")
    assert "'again' has an image input of PIA, which gets no picture here" in caplog.text


def test_the_image_input_can_be_given_to_another_motion_model(load, use, sample, nodes, file, pack):
    other = load({}, name="v2", mid=True, seed=8)
    both = nodes("ADE_InjectPIAIntoAnimateDiffModel", model_name=file(image_input_tensors()), motion_model=other)[0]
    model = use(both, pictures())
    ((x, h, _),) = seen(model, sample, steps=1)
    close(h, first_convolution(model, image_input_tensors(), x, beside(pictures().repeat(4, 1, 1, 1), [1.0] * 4)))
    assert torch.equal(sample(use(other)), sample(use(both)))
    with pytest.raises(ValueError, match=r"'v2' is no PIA model, .* Load a PIA file"):
        use(other, pictures())
    with pytest.raises(ValueError, match=r"'v2.safetensors' is no PIA file, but one of the layout AnimateDiff"):
        nodes("ADE_InjectPIAIntoAnimateDiffModel", model_name="v2.safetensors", motion_model=other)


def test_what_does_not_fit_is_refused_before_the_vae_works(load, use, sample, vae):
    vae.latent_channels = 16
    with pytest.raises(ValueError, match="The vae makes latents of 16 channels, but the checkpoint takes 4"):
        sample(use(load(), pictures()))
    vae.latent_channels = 4
    with pytest.raises(ValueError, match="is for a UNet of 64 channels, but this checkpoint's has 32"):
        sample(use(load(image_input_tensors(width=64), name="wide"), pictures()))
    with pytest.raises(ValueError, match="takes latents of 16 channels, but those being sampled have 4"):
        sample(use(load(image_input_tensors(33), name="deep"), pictures()))
    assert not vae.encoded


def test_the_network_is_that_of_diffusers(pack, use, sample, nodes, tmp_path, file, new_model):
    """Its PIA file is read, and a whole UNet with it gives the same prediction."""
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers: pip install diffusers")
    import comfy.utils
    from animatediff_tests_tiny import SD15, TINY, randomise
    from comfy.patcher_extension import WrappersMP

    widths = (32, 64, 128, 128)
    unet = diffusers.UNet2DConditionModel(block_out_channels=widths, cross_attention_dim=16, attention_head_dim=8)
    adapter = diffusers.MotionAdapter(block_out_channels=widths, conv_in_channels=9, use_motion_mid_block=False)
    randomise(unet, 3)
    randomise(adapter, 4)
    adapter.save_pretrained(tmp_path / "diffusers")
    model = new_model()
    names = comfy.utils.unet_to_diffusers({**TINY, **SD15})
    state = {names[key]: value for key, value in unet.state_dict().items()}
    model.model.diffusion_model.load_state_dict(state)
    theirs = diffusers.UNetMotionModel.from_unet2d(unet, adapter).eval()

    (tmp_path / "diffusers" / "diffusion_pytorch_model.safetensors").rename(tmp_path / "from_diffusers.safetensors")
    motion_model = nodes("ADE_LoadAnimateDiffModel", model_name="from_diffusers.safetensors")[0]
    assert motion_model.model.spec.layout == "PIA"
    preset = nodes("ADE_InputPIA_PaperPresets", preset="Animation (Medium Motion)", batch_index=0)[0]
    compared = []

    def around(executor, x, timesteps, context, *args, **kwargs):
        # diffusers' group norms are joint in motion modules only, not in the rest of the UNet
        for module in model.model.diffusion_model.modules():
            if isinstance(module, torch.nn.GroupNorm):
                module.__dict__.pop("forward", None)
        found = executor(x, timesteps, context, *args, **kwargs)
        clips = len(x) // 4
        mask = torch.tensor([1, 0.8, 0.8, 0.8]).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
        latents = StandInVae.latents(pictures()).repeat(4, 1, 1, 1) * 0.18215
        given = torch.cat([x, torch.cat([mask, latents], dim=1).repeat(clips, 1, 1, 1)], dim=1)
        given = given.unflatten(0, (clips, 4)).transpose(1, 2)
        (expected,) = theirs(given, timesteps[0], encoder_hidden_states=context, return_dict=False)
        compared.append((found, expected.transpose(1, 2).flatten(0, 1)))
        return found

    animated = use(motion_model, pictures(), model=model, pia_input=preset)
    animated.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", around)
    sample(animated, steps=2)
    assert len(compared) == 2
    for found, expected in compared:
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# FancyVideo


def sinusoids(number: float, width: int) -> torch.Tensor:
    angles = [number / 10000 ** (i / (width // 2)) for i in range(width // 2)]
    return torch.tensor([*map(math.cos, angles), *map(math.sin, angles)], dtype=torch.float64)


def embedded(tensors: dict, name: str, number: float) -> torch.Tensor:
    weight, bias = (tensors[f"{name}_embedding.linear.{part}"].double() for part in ("weight", "bias"))
    z = weight @ sinusoids(number, WIDTH) + bias
    return z / (1 + (-z).exp())


@pytest.mark.parametrize(("fps", "motion_score"), [(25.0, 3.0), (8.0, 6.5)])
def test_fancy_video_sees_its_first_frames_and_is_told_rate_and_motion(
    load_fancy, load, use, use_fancy, sample, new_model, fps, motion_score
):
    checkpoint, motion_model = new_model(), load_fancy()
    assert motion_model.model.spec.layout == "FancyVideo"
    model = use_fancy(motion_model, pictures(2), fps, motion_score, model=checkpoint)
    latents = torch.zeros(5, 4, 8, 8)
    latents[:2] = StandInVae.latents(pictures(2)) * 0.18215
    mask = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0]).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    without = seen(use(motion_model, model=checkpoint), sample, frames=5, steps=2)
    tensors = fps_and_motion_tensors()
    more = embedded(tensors, "fps", fps) + embedded(tensors, "motion", motion_score)
    for (x, h, emb), (_, _, emb_without) in zip(seen(model, sample, frames=5, steps=2), without, strict=True):
        close(h, first_convolution(model, image_input_tensors(), x, torch.cat([latents, mask], dim=1)))
        close(emb, emb_without.double() + more)


def test_fancy_video_in_windows_runs_again_and_without_a_picture(load_fancy, use, use_fancy, sample, nodes, caplog):
    context = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=1)[0]
    motion_model = load_fancy()
    model = use_fancy(motion_model, pictures(), context=context)
    calls = seen(model, sample, frames=7, steps=1)
    beside_frames = torch.zeros(7, 5, 8, 8)
    beside_frames[0] = torch.cat([StandInVae.latents(pictures()) * 0.18215, torch.ones(1, 1, 8, 8)], dim=1)[0]
    for (x, h, _), window in zip(calls, [[0, 1, 2, 3], [3, 4, 5, 6]], strict=True):
        close(h, first_convolution(model, image_input_tensors(), x, beside_frames[window]))
    first, plain = sample(model, frames=7), use(motion_model)
    assert "apply it with Apply FancyVideo Model" in caplog.text
    before = sample(plain)
    assert torch.equal(sample(model, frames=7), first)
    assert torch.equal(sample(model.clone(), frames=7), first)
    assert torch.equal(sample(plain), before)


def test_fancy_video_refuses_other_motion_models(load, use_fancy):
    with pytest.raises(ValueError, match="'pia' is no FancyVideo model"):
        use_fancy(load(), pictures())


@pytest.mark.parametrize("fancy", [False, True])
def test_windows_in_one_batch_see_each_its_pictures(
    load, load_fancy, use, use_fancy, sample, nodes, alike_in_one_batch, fancy
):
    context = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=1)[0]
    effect = torch.rand(7, 2, 3, generator=torch.Generator().manual_seed(0))
    motion_model, apply = (load_fancy(), use_fancy) if fancy else (load(), use)

    def animated(contexts):
        return apply(motion_model, pictures(5), context=contexts, effect_multival=effect)

    alike_in_one_batch(animated, lambda model: sample(model, frames=7, steps=2), context)
