"""SparseCtrl: files of both layouts, the network against diffusers', nodes and sampling, on tiny networks."""

from __future__ import annotations

import pytest
import torch
from animatediff_tests_copied import copied_by, size
from animatediff_tests_tiny import randomise
from safetensors.torch import load_file, save_file

WIDTHS = (32, 64, 128, 128)
FRAMES = 4
KINDS = {
    "RGB": {"conditioning_channels": 4, "use_simplified_condition_embedding": True},
    "scribble": {"conditioning_channels": 3, "use_simplified_condition_embedding": False},
}
DIFFUSERS = {"attn1.": "attention_blocks.0.", "norm1.": "norms.0.", "norm3.": "ff_norm."}


@pytest.fixture(params=list(KINDS))
def kind(request) -> str:
    return request.param


@pytest.fixture
def theirs(host_path):
    """A random network of diffusers."""
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers: pip install diffusers")

    def new(kind: str = "RGB"):
        network = diffusers.SparseControlNetModel(
            block_out_channels=WIDTHS, cross_attention_dim=16, attention_head_dim=8, **KINDS[kind]
        )
        randomise(network, 5)
        return network.eval()

    return new


@pytest.fixture
def file(theirs, tmp_path, monkeypatch):
    """Write such a network into the models folder, in diffusers' layout or AnimateDiff's; gives its name."""
    import folder_paths

    extensions = {".safetensors", ".ckpt"}
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "controlnet", ([str(tmp_path)], extensions))

    def new(kind: str = "RGB", layout: str = "diffusers", without: str | None = None) -> str:
        theirs(kind).save_pretrained(tmp_path / kind)
        tensors = load_file(tmp_path / kind / "diffusion_pytorch_model.safetensors")
        if layout == "AnimateDiff":
            tensors = {official(key): value for key, value in tensors.items()}
        tensors = {key: value for key, value in tensors.items() if without is None or without not in key}
        name = f"{kind} of {layout}"
        if layout == "AnimateDiff":  # as published: a pickle with more in it
            tensors = {f"module.{key}": value for key, value in tensors.items()}
            torch.save({"controlnet": tensors, "animatediff_config": ""}, tmp_path / f"{name}.ckpt")
            return f"{name}.ckpt"
        save_file(tensors, tmp_path / f"{name}.safetensors")
        return f"{name}.safetensors"

    return new


def official(key: str) -> str:
    before, found, after = key.partition(".motion_modules.")
    if not found:
        return key
    module, _, rest = after.partition(".")
    rest = rest.replace("pos_embed.pe", "attention_blocks.0.pos_encoder.pe")
    for name, published in DIFFUSERS.items():
        rest = rest.replace(name, published)
    return f"{before}.motion_modules.{module}.temporal_transformer.{rest}"


@pytest.fixture
def nodes(pack):
    found = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}
    return lambda node_id, **inputs: found[node_id].execute(**inputs).result


@pytest.fixture
def load(nodes, file):
    return lambda *args, **options: nodes("AnimateDiffLoadSparseCtrl", control_net_name=file(*args, **options))[0]


def given(frames: int, chosen: dict[int, torch.Tensor], shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """``(frames, …)``: the pictures of the frames that are chosen, zeros else; and the mask that says so."""
    pictures, mask = torch.zeros(frames, *shape), torch.zeros(frames, 1, *shape[1:])
    for frame, picture in chosen.items():
        pictures[frame], mask[frame] = picture, 1.0
    return pictures, mask


def expected(network, pictures, mask, timestep, context, clips: int = 1):
    """diffusers' residuals; ``context (clips * frames, tokens, channels)``."""
    frames = len(pictures)
    cond, mask = (x.transpose(0, 1)[None].repeat(clips, 1, 1, 1, 1) for x in (pictures, mask))
    nothing = torch.zeros(clips, 4, frames, 8, 8)
    with torch.no_grad():
        return network(nothing, timestep, context, cond, conditioning_mask=mask, return_dict=False)


def test_the_network_is_that_of_diffusers_from_both_layouts(pack, load, theirs, kind):
    """Whose group norms are joint over the frames in the temporal layers; those of the published code are not."""
    joint_group_norm = pack.submodule("motion_models.network.group_norm").joint_group_norm
    generator = torch.Generator().manual_seed(1)
    shape = (4, 8, 8) if kind == "RGB" else (3, 64, 64)
    chosen = {0: torch.randn(shape, generator=generator), 2: torch.randn(shape, generator=generator)}
    pictures, mask = given(FRAMES, chosen, shape)
    context = torch.randn(2 * FRAMES, 7, 16, generator=generator)
    down, middle = expected(theirs(kind), pictures, mask, 501, context, clips=2)
    hint = torch.cat([pictures, mask], dim=1).repeat(2, 1, 1, 1)
    for layout in ("diffusers", "AnimateDiff"):
        network = load(kind, layout).network.model
        with torch.no_grad(), joint_group_norm(network.motion, FRAMES):
            found = network(hint, torch.full((2 * FRAMES,), 501.0), context, FRAMES)
        assert len(found["output"]) == len(down) == 12
        for ours, other in zip((*found["output"], *found["middle"]), (*down, middle), strict=True):
            torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-4)


class StandInVae:
    latent_channels = 4
    decode = None

    def __init__(self):
        self.encoded: list[torch.Tensor] = []

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self.encoded.append(images)
        return self.latents(images)

    @staticmethod
    def latents(images: torch.Tensor) -> torch.Tensor:
        colours = torch.nn.functional.avg_pool2d(images.movedim(-1, 1) * 8 - 4, 8)
        return torch.cat([colours, colours.mean(1, keepdim=True)], dim=1)


@pytest.fixture
def vae():
    return StandInVae()


def pictures(count: int = 1, seed: int = 11) -> torch.Tensor:
    return torch.rand(count, 64, 64, 3, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def conds(nodes, positive, negative, vae):
    def make(control_net, image, indexes="0", strength=1.0, start_percent=0.0, end_percent=1.0, **more):
        return nodes(
            "AnimateDiffApplySparseCtrl",
            positive=positive,
            negative=negative,
            control_net=control_net,
            image=image,
            indexes=indexes,
            strength=strength,
            start_percent=start_percent,
            end_percent=end_percent,
            **{"vae": vae, **more},
        )

    return make


def asked(control_net, sample, model, **options) -> list[tuple[torch.Tensor, int]]:
    """What the network is given in each call: what is known of the frames, and how many they are."""
    seen = []
    hook = control_net.network.model.register_forward_pre_hook(
        lambda network, args: seen.append((args[0].clone(), args[3]))
    )
    try:
        sample(model, **options)
    finally:
        hook.remove()
    return seen


def known(frames: int, chosen: dict[int, torch.Tensor]) -> torch.Tensor:
    latents = {frame: StandInVae.latents(picture[None])[0] * 0.18215 for frame, picture in chosen.items()}
    return torch.cat(given(frames, latents, (4, 8, 8)), dim=1)


@pytest.mark.parametrize("layout", ["diffusers", "AnimateDiff"])
def test_each_weight_is_touched_once(nodes, file, kind, layout, monkeypatch):
    name = file(kind, layout)
    copied, (control,) = copied_by(lambda: nodes("AnimateDiffLoadSparseCtrl", control_net_name=name))
    network = control.network.model
    assert copied == 0
    assert size(network)
    assert not any(value.is_meta for value in (*network.parameters(), *network.buffers()))


def test_frames_by_index_in_windows_of_the_clip(load, conds, sample, nodes, new_model, new_motion, vae):
    control_net = load()
    applied = nodes("ADE_ApplyAnimateDiffModelSimple", motion_model=new_motion())[0]
    context = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=1)[0]
    model = nodes(
        "ADE_UseEvolvedSampling",
        model=new_model(),
        m_models=applied,
        beta_schedule="autoselect",
        context_options=context,
    )[0]
    images = pictures(2)
    seen = asked(control_net, sample, model, frames=7, steps=2, conds=conds(control_net, images, "1, -1"))
    whole = known(7, {1: images[0], 6: images[1]})
    assert len(seen) == 4
    for (hint, frames), window in zip(seen, [[0, 1, 2, 3], [3, 4, 5, 6]] * 2, strict=True):
        assert frames == 4
        torch.testing.assert_close(hint, whole[window].repeat(len(hint) // 4, 1, 1, 1))
    assert len(vae.encoded) == 1  # for both windows of all steps


def test_it_guides_a_clip_and_runs_again_alike(load, conds, sample, new_model):
    model, control_net = new_model(), load()
    plain = sample(model)
    guided = sample(model, conds=conds(control_net, pictures()))
    assert not torch.allclose(guided, plain, rtol=0.1)
    assert torch.equal(sample(model), plain)
    assert torch.equal(sample(model, conds=conds(control_net, pictures())), guided)
    assert torch.equal(sample(model.clone(), conds=conds(control_net, pictures())), guided)
    assert torch.equal(sample(model, conds=conds(control_net, pictures(), strength=0.0)), plain)
    assert torch.equal(sample(model, conds=conds(control_net, pictures(), strength_multival=0.0)), plain)


def residuals(control, model, t: float, frames: int = FRAMES):
    """What a conditioning's SparseCtrl gives for one call, as the host asks for it."""
    generator = torch.Generator().manual_seed(4)
    sampling = model.model.model_sampling
    control.pre_run(model.model, lambda percent: sampling.percent_to_sigma(percent))
    try:
        cond = {"c_crossattn": torch.randn(frames, 7, 16, generator=generator)}
        noisy = torch.randn(frames, 4, 8, 8, generator=generator)
        with torch.inference_mode():
            return control.get_control(noisy, torch.full((frames,), t), cond, 1, {})
    finally:
        control.cleanup()


def test_strength_over_steps_frames_and_masks(load, conds, new_model, nodes):
    control_net, model = load(), new_model()
    percent = model.model.model_sampling.percent_to_sigma
    early, late = float(percent(0.2)), float(percent(0.7))

    def control(**options):
        return conds(control_net, pictures(), **options)[0][0][1]["control"]

    full = residuals(control(), model, early)
    half = residuals(control(strength=0.5), model, early)
    scheduled = control(strengths="0.0: 1.0, 0.5: 0.25")
    floats = nodes("ADE_MultivalDynamicFloats", floats=[1.0, 0.5, 0.0])[0]
    of_frames = control(strength_multival=floats)
    longer = residuals(of_frames, model, early, frames=6)
    per_frame = residuals(of_frames, model, early)  # the longer run has left nothing
    assert all(not value[2:].any() and value[:2].any() for value in longer["output"])
    weights = torch.tensor([1.0, 0.5, 0.0, 0.0]).view(-1, 1, 1, 1)
    first = residuals(scheduled, model, early)
    second, late_full = residuals(scheduled, model, late), residuals(control(), model, late)
    for place in range(12):
        whole = full["output"][place]
        torch.testing.assert_close(half["output"][place], whole * 0.5)
        torch.testing.assert_close(per_frame["output"][place], whole * weights)
        torch.testing.assert_close(first["output"][place], whole)
        torch.testing.assert_close(second["output"][place], late_full["output"][place] * 0.25)
    assert residuals(control(end_percent=0.5), model, late) is None
    assert residuals(control(start_percent=0.5), model, early) is None


def test_it_stands_in_the_hosts_sockets(load, sample, new_model, positive, negative):
    """Of the host's Apply ControlNet: pictures are of the first frames. Scribbles need no VAE."""
    from nodes import ControlNetApplyAdvanced

    control_net, model = load("scribble"), new_model()
    made = ControlNetApplyAdvanced().apply_controlnet(positive, negative, control_net, pictures(2), 1.0, 0.0, 1.0)
    seen = asked(control_net, sample, model, steps=1, conds=made)
    images = pictures(2).movedim(-1, 1)
    expected_hint = torch.cat(given(4, {0: images[0], 1: images[1]}, (3, 64, 64)), dim=1)
    for hint, _ in seen:
        torch.testing.assert_close(hint, expected_hint.repeat(len(hint) // 4, 1, 1, 1))


def test_it_stands_behind_another_controlnet(load, conds, new_model, nodes, vae):
    control_net, model = load(), new_model()
    once = conds(control_net, pictures())
    twice = nodes(
        "AnimateDiffApplySparseCtrl",
        positive=once[0],
        negative=once[1],
        control_net=control_net,
        image=pictures(),
        indexes="0",
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
        vae=vae,
    )
    assert twice[0][0][1]["control"] is twice[1][0][1]["control"]
    one, two = (residuals(made[0][0][1]["control"], model, 5.0) for made in (once, twice))
    for single, double in zip(one["output"], two["output"], strict=True):
        torch.testing.assert_close(double, single * 2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"indexes": "0, x"}, r"indexes of Apply SparseCtrl is '0, x', but has to name frames by whole numbers"),
        ({"indexes": " "}, r"has to name frames"),
        ({"image": pictures(2)}, r"image has 2 pictures, but indexes of Apply SparseCtrl names 1 frames"),
        ({"vae": None}, r"takes pictures as latents of 4 channels\. Connect the VAE"),
        ({"strengths": "0.0 1.0"}, r"strengths, line 1"),
    ],
)
def test_wrong_inputs_are_told(load, conds, inputs, message):
    with pytest.raises(ValueError, match=message):
        conds(load(), **{"image": pictures(), **inputs})


def test_frames_that_the_clip_does_not_have_are_told(load, conds, sample, new_model):
    with pytest.raises(ValueError, match=r"names frame 4, but the clip has 4 frames: 0 to 3"):
        sample(new_model(), conds=conds(load(), pictures(), "4"))


def test_too_many_frames_are_told(load, conds, new_model):
    control = conds(load(), pictures())[0][0][1]["control"]
    with pytest.raises(ValueError, match=r"handles at most 32 frames at once, but is asked for 33"):
        residuals(control, new_model(), 5.0, frames=33)


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("motion_modules", "is no SparseCtrl file: it has no temporal layers"),
        ("controlnet_cond_embedding", "is no SparseCtrl file: it has no layers for the pictures"),
        ("controlnet_down_blocks.3", r"tensors are missing \(control\.zero_convs\.3\.0\.weight"),
        ("mid_block.attentions", "looks like a SparseCtrl file, but is not complete"),
        ("down_blocks.1.motion_modules.0.transformer_blocks.0.attn1.to_q", "tensors are missing"),
    ],
)
def test_other_and_damaged_files_are_told(load, without, message):
    with pytest.raises(ValueError, match=message):
        load(without=without)


def test_a_plain_controlnet_is_refused_by_the_node(conds):
    import comfy.controlnet

    with pytest.raises(ValueError, match=r"is no SparseCtrl\. Connect Load SparseCtrl Model"):
        conds(comfy.controlnet.ControlNet(), pictures())


def test_windows_in_one_batch_are_guided_each_for_itself(
    load, conds, sample, nodes, new_model, new_motion, alike_in_one_batch
):
    control_net, model = load(), new_model()
    applied = nodes("ADE_ApplyAnimateDiffModelSimple", motion_model=new_motion())[0]
    strengths = torch.rand(7, 2, 3, generator=torch.Generator().manual_seed(0))
    guided = conds(control_net, pictures(2), "1, -1", strength_multival=strengths)

    def animated(contexts):
        options = {"m_models": applied, "beta_schedule": "autoselect", "context_options": contexts}
        return nodes("ADE_UseEvolvedSampling", model=model, **options)[0]

    context = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=1)[0]
    clip = alike_in_one_batch(animated, lambda model: sample(model, frames=7, steps=2, conds=guided), context)
    assert not torch.allclose(clip, sample(animated(context), frames=7, steps=2), rtol=0.1)


def test_a_copy_for_another_gpu_has_a_network_of_its_own(load):
    """The host makes it for its MultiGPU CFG Split; ``cpu:0`` stands for the other GPU."""
    control, device = load("scribble"), torch.device("cpu", 0)
    if not hasattr(control, "get_instance_for_device"):
        pytest.skip("ComfyUI before 0.24 samples on one GPU")
    copy = control.deepclone_multigpu(device, autoregister=True)
    assert control.get_instance_for_device(device) is copy
    assert copy.network.load_device == device
    ours, theirs = (one.network.model.state_dict() for one in (control, copy))
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name])
        assert weight.data_ptr() != theirs[name].data_ptr()
