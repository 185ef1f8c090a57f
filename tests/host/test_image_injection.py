"""Image injection on tiny networks, with a stand-in for the VAE: runs against the same run made by hand, stage by stage."""

from __future__ import annotations

import logging

import pytest
import torch
from torch.nn import functional as F

FRAMES, SIZE, STEPS = 6, 8, 8
LARGE = 100  # latents of the random UNet are
SETTINGS = {"batch_offset": 0, "noise_type": "default", "seed_gen": "comfy", "seed_offset": 0}


class Vae:
    """Averages of 8 x 8 pixels and a mixture of their colours; what it decodes is no exact inverse."""

    latent_channels, latent_dim, downscale_ratio = 4, 2, 8

    def __init__(self):
        generator = torch.Generator().manual_seed(8)
        self.mix = torch.randn(4, 3, generator=generator)
        self.pictures, self.before_decode = [], lambda: None

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        assert pictures.shape[-1] == 3
        self.pictures.append(len(pictures))
        small = F.avg_pool2d(pictures.movedim(-1, 1), 8)
        return LARGE * torch.einsum("lc,nchw->nlhw", self.mix, small)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        self.before_decode()
        self.pictures.append(len(latents))
        small = torch.einsum("lc,nlhw->nchw", self.mix, latents / LARGE).tanh() * 0.5 + 0.5
        return F.interpolate(small, scale_factor=8.0, mode="bilinear").movedim(1, -1)


@pytest.fixture
def nodes(pack):
    found = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}

    def run(node_id: str, **inputs):
        return found[node_id].execute(**inputs).result[0]

    return run


@pytest.fixture
def injected(nodes):
    """`injected({...}, {...})`: IMAGE_INJECT of pictures with these inputs, chained."""

    def make(*pictures: dict):
        chain = None
        for inputs in pictures:
            chain = nodes("ADE_NoisedImageInjection", prev_image_inject=chain, **inputs)
        return chain

    return make


@pytest.fixture
def new_run(nodes, new_model, new_motion):
    """`new_run(image_inject=..., …)`: an animated MODEL with these inputs of Sample Settings, or of Use Evolved Sampling."""
    motion = new_motion()

    def make(context_options=None, keyframes=None, **settings):
        applied = nodes("ADE_ApplyAnimateDiffModelSimple", motion_model=motion, ad_keyframes=keyframes)
        return nodes(
            "ADE_UseEvolvedSampling",
            model=new_model(),
            beta_schedule="autoselect",
            m_models=applied,
            context_options=context_options,
            sample_settings=nodes("ADE_AnimateDiffSamplingSettings", **SETTINGS, **settings),
        )

    return make


def picture(frames: int = 1, height: int = 40, width: int = 56, seed: int = 4, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(frames, channels, height // 8, width // 8, generator=generator)
    return F.interpolate(small, (height, width), mode="bilinear").movedim(1, -1)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def laid_over(clip: torch.Tensor, image, mask=None, invert=False, resize=True, x=0, y=0) -> torch.Tensor:
    """The host's own compositing of latents, with pictures for them."""
    from comfy_extras.nodes_mask import composite

    frames = [min(i, len(image) - 1) for i in range(len(clip))]
    if mask is not None:
        mask = mask[[min(i, len(mask) - 1) for i in range(len(clip))]]
        mask = 1 - mask if invert else mask
    source = image[frames][..., :3].movedim(-1, 1)
    return composite(clip.movedim(-1, 1).clone(), source, x, y, mask, 8, resize).movedim(1, -1)


def new_latents(latents, denoised, vae, strength=1.0, **picture) -> torch.Tensor:
    """The formula, for latents in the scale of the VAE."""
    clip = vae.decode(denoised)
    difference = latents - vae.encode(clip)
    new = vae.encode(laid_over(clip, **picture)) + difference
    return new * strength + latents * (1 - strength)


@pytest.fixture
def by_hand(sample):
    """`by_hand(model, [(stop, function), …])`: latents after stages, `function(latents, denoised)` applied at each stop."""

    def run(model, stops, latent=None, **options):
        noise, begin = None, 0
        for stop, function in [*stops, (STEPS, None)]:
            seen = []
            latent = sample(
                model,
                frames=FRAMES,
                steps=STEPS,
                latent=latent,
                noise=noise,
                start_step=begin,
                last_step=stop,
                callback=lambda step, denoised, x, steps, seen=seen: seen.append(denoised.clone()),
                **options,
            )
            if function is not None:
                denoised = model.get_model_object("latent_format").process_out(seen[-1])
                latent = function(latent, denoised)
            noise, begin = torch.zeros_like(latent), stop
        return latent

    return run


def test_a_run_is_the_stages_made_by_hand(new_run, injected, by_hand, sample):
    vae, image = Vae(), picture()
    model = new_run(image_inject=injected({"image": image, "vae": vae, "start_percent": 0.5}))
    found = sample(model, frames=FRAMES, steps=STEPS)
    expected = by_hand(new_run(), [(4, lambda made, denoised: new_latents(made, denoised, vae, image=image))])
    assert relative(found, expected) < 1e-5
    assert relative(found, sample(new_run(), frames=FRAMES, steps=STEPS)) > 0.02


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "euler_ancestral"])
def test_samplers_begin_anew_with_each_segment(new_run, injected, by_hand, sample, sampler):
    vae, image = Vae(), picture()
    model = new_run(image_inject=injected({"image": image, "vae": vae, "start_percent": 0.3, "guarantee_steps": 2}))
    found = sample(model, frames=FRAMES, steps=STEPS, sampler=sampler)

    def laid_in(made, denoised):
        return new_latents(made, denoised, vae, image=image)

    assert relative(found, by_hand(new_run(), [(3, laid_in), (4, laid_in)], sampler=sampler)) < 1e-4


def test_pictures_of_a_chain_are_laid_in_in_the_order_of_the_schedule(new_run, injected, by_hand, sample):
    first, second = Vae(), Vae()
    second.mix = second.mix.flip(0)
    images = picture(seed=4), picture(FRAMES, seed=5)
    chain = injected(
        {"image": images[1], "vae": second, "start_percent": 0.6},
        {"image": images[0], "vae": first, "start_percent": 0.2},
    )
    stops = [
        (2, lambda made, denoised: new_latents(made, denoised, first, image=images[0])),
        (5, lambda made, denoised: new_latents(made, denoised, second, image=images[1])),
    ]
    found = sample(new_run(image_inject=chain), frames=FRAMES, steps=STEPS)
    assert relative(found, by_hand(new_run(), stops)) < 1e-5


GRADIENT = torch.linspace(0, 1, 5 * 7).reshape(1, 5, 7)
MASKS = torch.stack([GRADIENT[0], 1 - GRADIENT[0] ** 2])


@pytest.mark.parametrize(
    ("inputs", "meaning"),
    [
        ({}, {}),
        ({"resize_image": False}, {"resize": False}),
        ({"mask_opt": MASKS}, {"mask": MASKS}),
        ({"mask_opt": MASKS, "invert_mask": True}, {"mask": MASKS, "invert": True}),
        ({"mask_opt": MASKS.unsqueeze(1), "resize_image": False}, {"mask": MASKS, "resize": False}),
        ({"place": (100, 83), "resize_image": False}, {"x": 100, "y": 83, "resize": False}),
        ({"place": (100, 83), "mask_opt": GRADIENT}, {"x": 100, "y": 83, "mask": GRADIENT}),
        ({"place": (16384, 0)}, {"x": 16384}),
    ],
)
@pytest.mark.parametrize("size", [(40, 56), (64, 64), (88, 96)], ids=str)
def test_pictures_lie_where_the_host_would_put_them(nodes, injected, inputs, meaning, size):
    """Offsets of (100, 83) are 12 and 10 pixels."""
    place = inputs.get("place")
    options = nodes("ADE_NoisedImageInjectOptions", composite_x=place[0], composite_y=place[1]) if place else None
    inputs = {name: value for name, value in inputs.items() if name != "place"}
    image, clip = picture(3, *size, channels=4), torch.rand(FRAMES, 64, 64, 3)
    before = clip.clone()
    (found,) = injected({"image": image, "vae": Vae(), "img_inject_opts": options, **inputs})
    torch.testing.assert_close(found.over(clip), laid_over(clip, image, **meaning), rtol=0, atol=1e-6)
    assert torch.equal(clip, before)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, "mask"])
def test_strength_blends_new_and_old_latents(injected, strength):
    vae, image = Vae(), picture()
    latents, denoised = torch.randn(2, FRAMES, 4, SIZE, SIZE)
    masks = torch.rand(2, SIZE, SIZE)
    multival = masks if strength == "mask" else strength
    (found,) = injected({"image": image, "vae": vae, "strength_multival": multival})
    if strength == "mask":
        strength = masks[[0, 1, 1, 1, 1, 1]].unsqueeze(1)
    expected = new_latents(latents, denoised, vae, image=image, strength=strength)
    torch.testing.assert_close(found.into(latents, denoised), expected)


def test_a_few_frames_at_a_time_are_the_same(injected):
    """Each with its own picture and mask, the last of which serve the rest."""
    vae, frames = Vae(), 40
    latents, denoised = torch.randn(2, frames, 4, SIZE, SIZE)
    image, mask = picture(25), torch.rand(30, 5, 7)
    (found,) = injected({"image": image, "vae": vae, "mask_opt": mask})
    torch.testing.assert_close(
        found.into(latents, denoised), new_latents(latents, denoised, Vae(), image=image, mask=mask)
    )
    assert vae.pictures == [16] * 6 + [8] * 3


def keyframes_of(nodes):
    first = nodes("ADE_AnimateDiffKeyframe", start_percent=0.1, scale_multival=1.4, guarantee_steps=5)
    return nodes("ADE_AnimateDiffKeyframe", start_percent=0.2, effect_multival=0.3, prev_ad_keyframes=first)


def test_what_lasts_for_a_pass_goes_on_across_segments(nodes, new_run, injected, sample):
    """Pictures of strength 0 change nothing: keyframes of motion, of CFG and contexts are not begun anew.

    In ADE motion models lose what is theirs with each segment.
    """
    contexts = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=2, guarantee_steps=3)
    contexts = nodes(
        "ADE_StandardStaticContextOptions",
        context_length=4,
        context_overlap=3,
        start_percent=0.2,
        prev_context=contexts,
    )
    cfg = nodes("ADE_CustomCFGKeyframe", cfg_multival=2.0, start_percent=0.0, guarantee_steps=3)
    cfg = nodes("ADE_CustomCFGKeyframe", cfg_multival=9.0, start_percent=0.1, guarantee_steps=1, prev_custom_cfg=cfg)
    settings = {"context_options": contexts, "keyframes": keyframes_of(nodes), "custom_cfg": cfg}
    nothing = {"image": picture(), "vae": Vae(), "strength_multival": 0.0}
    chain = injected({**nothing, "start_percent": 0.15, "guarantee_steps": 2}, {**nothing, "start_percent": 0.5})
    plain = sample(new_run(**settings), frames=FRAMES, steps=STEPS)
    assert relative(sample(new_run(**settings, image_inject=chain), frames=FRAMES, steps=STEPS), plain) < 1e-5
    for other in settings:
        without = {name: value for name, value in settings.items() if name != other}
        assert relative(sample(new_run(**without), frames=FRAMES, steps=STEPS), plain) > 1e-3, other


def test_uniform_windows_count_their_steps_anew_in_each_segment(nodes, new_run, injected, sample, pack):
    windows = nodes("ADE_StandardUniformContextOptions", context_length=4, context_stride=1, context_overlap=2)
    seen = []

    def watch(apply_model, arguments):
        seen.append(tuple(arguments["c"]["transformer_options"]["ad_params"]["sub_idxs"]))
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    def run(**settings):
        model = new_run(context_options=windows, **settings)
        model.set_model_unet_function_wrapper(watch)
        seen.clear()
        sample(model, frames=FRAMES, steps=STEPS)
        return list(seen)

    plain = run()
    per_step = [plain[i : i + len(plain) // STEPS] for i in range(0, len(plain), len(plain) // STEPS)]
    schedule = pack.submodule("sampling.windows.schedules")
    options = schedule.WindowOptions("standard_uniform", 4, 2)

    def windows_of(steps):
        return [tuple(window) for step in steps for window in schedule.windows(FRAMES, options, step)]

    assert per_step and list(dict.fromkeys(plain)) == list(dict.fromkeys(windows_of(range(STEPS))))
    found = run(image_inject=injected({"image": picture(), "vae": Vae(), "start_percent": 0.5}))
    repeated = len(plain) // len(windows_of(range(STEPS)))
    expected = [window for window in windows_of([*range(4), *range(4)]) for _ in range(repeated)]
    assert sorted(found) == sorted(expected)
    assert sorted(plain) != sorted(expected)


def test_each_iteration_stops_for_its_pictures(nodes, new_run, injected, by_hand, sample):
    """In ADE the second one samples only the last segment."""
    vae, image = Vae(), picture()
    iterations = nodes("ADE_IterationOptsDefault", iterations=2)
    chain = injected({"image": image, "vae": vae, "start_percent": 0.5})
    model = new_run(image_inject=chain, iteration_opts=iterations)
    found = sample(model, frames=FRAMES, steps=STEPS)

    def laid_in(made, denoised):
        return new_latents(made, denoised, vae, image=image)

    once = by_hand(new_run(), [(4, laid_in)])
    twice = by_hand(new_run(), [(4, laid_in)], latent=once)
    assert relative(found, twice) < 1e-4
    assert relative(once, twice) > 0.02


def test_ancestral_noise_begins_anew_with_each_segment(nodes, new_run, injected, sample, by_hand):
    options = nodes("ADE_AncestralOptions", noise_type="default", seed_offset=7)
    nothing = {"image": picture(), "vae": Vae(), "strength_multival": 0.0, "start_percent": 0.5}
    found = sample(
        new_run(image_inject=injected(nothing), ancestral_opts=options),
        frames=FRAMES,
        steps=STEPS,
        sampler="euler_ancestral",
    )
    expected = by_hand(new_run(ancestral_opts=options), [(4, lambda made, denoised: made)], sampler="euler_ancestral")
    assert relative(found, expected) < 1e-4


def test_what_a_mask_keeps_is_kept(new_run, injected, sample):
    """In ADE it is left as noisy as it is at the last picture."""
    latent = torch.randn(FRAMES, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(9))
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[..., SIZE // 2 :] = 1
    run = {"frames": FRAMES, "steps": STEPS, "latent": latent, "noise_mask": mask}
    plain = sample(new_run(), **run)
    nothing = {"image": picture(), "vae": Vae(), "strength_multival": 0.0, "guarantee_steps": 2}
    chain = injected({**nothing, "start_percent": 0.2}, {**nothing, "start_percent": 0.7})
    assert relative(sample(new_run(image_inject=chain), **run), plain) < 1e-4
    chain = injected({"image": picture(), "vae": Vae(), "start_percent": 0.5})
    found = sample(new_run(image_inject=chain), **run)
    torch.testing.assert_close(found[..., : SIZE // 2], latent[..., : SIZE // 2], rtol=1e-4, atol=1e-4)
    assert relative(found[..., SIZE // 2 :], plain[..., SIZE // 2 :]) > 0.02


def test_the_progress_counts_the_steps_of_the_run(new_run, injected, sample):
    seen = []
    chain = injected({"image": picture(), "vae": Vae(), "start_percent": 0.3, "guarantee_steps": 2})
    sample(
        new_run(image_inject=chain),
        frames=FRAMES,
        steps=STEPS,
        callback=lambda step, denoised, x, steps: seen.append((step, steps, denoised.shape)),
    )
    assert seen == [(step, STEPS, (FRAMES, 4, SIZE, SIZE)) for step in range(STEPS)]


def test_a_picture_before_a_later_stage_is_left_out_and_told(new_run, injected, sample, caplog):
    vae = Vae()
    model = new_run(image_inject=injected({"image": picture(), "vae": vae, "start_percent": 0.2}))
    stage = {"frames": FRAMES, "steps": STEPS, "start_step": 4}
    with caplog.at_level(logging.WARNING):
        found = sample(model, **stage)
    assert torch.equal(found, sample(new_run(), **stage))
    assert "The picture of Image Injection at start_percent 0.2 is not laid into the clip" in caplog.text
    assert vae.pictures == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"latent_channels": 16}, "makes latents with 16 channels, but those of the clip are of pictures, with 4"),
        ({"latent_dim": 3, "latent_channels": 16}, "makes latents of videos or of sound"),
    ],
)
def test_another_models_vae_is_refused_before_sampling(new_run, injected, sample, changes, words):
    vae = Vae()
    vars(vae).update(changes)
    model = new_run(image_inject=injected({"image": picture(), "vae": vae}))
    model.set_model_unet_function_wrapper(lambda *_: pytest.fail("sampled"))
    with pytest.raises(ValueError, match=f"The VAE of Image Injection {words}.* Connect the VAE of the checkpoint"):
        sample(model, frames=FRAMES)


def test_stop_is_heeded_between_the_frames(new_run, injected, sample):
    import comfy.model_management

    vae = Vae()
    vae.before_decode = lambda: comfy.model_management.interrupt_current_processing()
    model = new_run(image_inject=injected({"image": picture(), "vae": vae, "start_percent": 0.5}))
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(model, frames=20, steps=4)
    assert vae.pictures[0] == 16 and len(vae.pictures) == 3  # decode, encode, encode of the first sixteen
    comfy.model_management.interrupt_current_processing(False)


def test_options_take_their_inputs_by_the_names_of_the_node(nodes):
    """ADE's node fails always."""
    place = nodes("ADE_NoisedImageInjectOptions", composite_x=24, composite_y=8)
    assert (place.x, place.y) == (24, 8)
    assert vars(nodes("ADE_NoisedImageInjectOptions")) == {"x": 0, "y": 0}


# Scale Ref Image and VAE Encode.


@pytest.mark.parametrize("crop", ["disabled", "center"])
@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"])
def test_pictures_are_scaled_to_the_clip_and_encoded(nodes, method, crop):
    import comfy.utils

    vae, image = Vae(), picture(20, 40, 72, channels=4)
    size = {"samples": torch.zeros(4, 4, 6, 9)}
    found = nodes("ADE_UpscaleAndVAEEncode", image=image, vae=vae, latent_size=size, scale_method=method, crop=crop)
    scaled = comfy.utils.common_upscale(image[..., :3].movedim(-1, 1), 72, 48, method, crop).movedim(1, -1)
    torch.testing.assert_close(found["samples"], Vae().encode(scaled))
    assert found["samples"].shape == (20, 4, 6, 9)
    assert vae.pictures == [16, 4]


def test_pictures_for_a_video_models_latents_are_refused(nodes):
    inputs = {"image": picture(), "vae": Vae(), "scale_method": "bilinear", "crop": "center"}
    with pytest.raises(ValueError, match="AnimateDiff needs one picture per frame"):
        nodes("ADE_UpscaleAndVAEEncode", **inputs, latent_size={"samples": torch.zeros(1, 16, 4, 6, 9)})
    with pytest.raises(ValueError, match="The VAE of Scale Ref Image and VAE Encode makes latents with 4 channels"):
        nodes("ADE_UpscaleAndVAEEncode", **inputs, latent_size={"samples": torch.zeros(1, 16, 6, 9)})
