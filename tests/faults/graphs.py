"""What users do with one ComfyUI, one after the other: each graph is a prompt of its own, small, and unlike the others.

A graph is a function that is given Parts and keeps latents, pictures or numbers.
"""

from __future__ import annotations

from animatediff_faults_parts import Parts
from animatediff_faults_running import output

GRAPHS: dict[str, object] = {}


def graph(function):
    GRAPHS[function.__name__] = function
    return function


@graph
def plain(g: Parts):
    g.sample()


@graph
def plain_single_picture(g: Parts):
    g.sample(latent_image=g("TinyLatent", frames=1))


@graph
def v1_joint_group_norm(g: Parts):
    g.sample(g.animate(m_models=g.apply("v1.safetensors")))


@graph
def v2(g: Parts):
    g.sample(g.animate())


@graph
def two_motion_models_in_turn(g: Parts):
    first = g.apply("v1.safetensors", end_percent=0.4)
    g.sample(g.animate(m_models=g.apply(start_percent=0.4, prev_m_models=first)), steps=3)


@graph
def one_motion_model_twice(g: Parts):
    scale = g("ADE_MultivalDynamic", float_val=0.6)
    first = g.apply(scale_multival=scale)
    g.sample(g.animate(m_models=g.apply(effect_multival=scale, prev_m_models=first)))


@graph
def static_windows(g: Parts):
    g.sample(g.animate(context_options=g("ADE_StandardStaticContextOptions", fuse_method="relative")))


@graph
def uniform_windows(g: Parts):
    context = g("ADE_StandardUniformContextOptions", context_stride=2, fuse_method="🔬gauss-sigma")
    g.sample(g.animate(context_options=context), steps=3)


@graph
def looped_windows_at_random(g: Parts):
    context = g("ADE_LoopedUniformContextOptions", closed_loop=True, fuse_method="🔬random")
    g.sample(g.animate(context_options=context), steps=3)


@graph
def batched_windows_joint_group_norm(g: Parts):
    m_models = g.apply("v1.safetensors")
    g.sample(g.animate(m_models=m_models, context_options=g("ADE_BatchedContextOptions")))


@graph
def windows_that_reuse_the_first(g: Parts):
    keyframes = g("ADE_ContextExtras_NaiveReuse_Keyframe", start_percent=0.4, mult=0.5)
    extras = g("ADE_ContextExtras_NaiveReuse", end_percent=1.0, naivereuse_kf=keyframes)
    context = g("ADE_ContextExtras_Set", context_opts=g("ADE_LoopedUniformContextOptions"), context_extras=extras)
    g.sample(g.animate(context_options=context), steps=3)


@graph
def windows_that_look_at_each_other(g: Parts):
    tune = g("ADE_ContextExtras_ContextRef_TuneAttnAdain", attn_style_fidelity=0.5, adain_style_fidelity=0.5)
    mode = g("ADE_ContextExtras_ContextRef_ModeSliding")
    extras = g("ADE_ContextExtras_ContextRef", end_percent=1.0, contextref_tune=tune, contextref_mode=mode)
    context = g("ADE_ContextExtras_Set", context_opts=g("ADE_StandardStaticContextOptions"), context_extras=extras)
    g.sample(g.animate(context_options=context), steps=3)


@graph
def views_only(g: Parts):
    g.sample(g.animate(context_options=g("ADE_ViewsOnlyContextOptions")))


@graph
def views_in_windows_then_all_frames(g: Parts):
    views = g("ADE_LoopedUniformViewOptions", view_length=2, view_overlap=0)
    first = g("ADE_StandardStaticContextOptions", view_opts=views)
    then = g("ADE_BatchedContextOptions", context_length=6, start_percent=0.5, prev_context=first)
    g.sample(g.animate(context_options=then), steps=4)


@graph
def windows_of_the_host(g: Parts):
    windows = g("ContextWindowsManual", model=g.animate(), causal_window_fix=False, context_schedule="batched")
    g.sample(windows, steps=5)  # as many sigmas as frames, which the node of the oldest host needs


@graph
def control_net_in_windows(g: Parts):
    conds = g("ControlNetApplyAdvanced", image=g("TinyPictures"), positive=g("TinyCond"))
    model = g.animate(context_options=g("ADE_StandardStaticContextOptions"))
    g.sample(model, positive=conds, negative=output(conds, 1))


@graph
def keyframes_with_masks(g: Parts):
    mask = g("ADE_MultivalScaledMask", max_float_val=1.5, mask=g("TinyMask"))
    first = g("ADE_AnimateDiffKeyframe", start_percent=0.0, scale_multival=mask)
    then = g("ADE_AnimateDiffKeyframe", start_percent=0.5, effect_multival=mask, prev_ad_keyframes=first)
    g.sample(g.animate(m_models=g.apply(ad_keyframes=then)), steps=4)


@graph
def blocks_of_their_own(g: Parts):
    block = g("ADE_ADBlockIndiv", effect=g("ADE_MultivalDynamic"), scale_0=g("ADE_MultivalDynamic", float_val=1.4))
    g.sample(g.animate(m_models=g.apply(per_block=g("ADE_PerBlockHighLevel", up=block))))


@graph
def motion_lora(g: Parts):
    g.sample(g.animate(m_models=g.apply(motion_lora=g("ADE_AnimateDiffLoRALoader"))))


@graph
def motion_loras_that_vary(g: Parts):
    pan = g("ADE_AnimateDiffLoRALoader", name="pan.safetensors", strength=0.7)
    varying = g(
        "AnimateDiffScheduleMotionLoRA",
        motion_lora=g("ADE_AnimateDiffLoRALoader", prev_motion_lora=pan),
        strengths="0: 1, 0.5: 0.2",
        interpolation="linear",
        frame_strengths="0: 1, 5: 0",
        mask=g("TinyMask"),
    )
    context = g("ADE_StandardStaticContextOptions")
    g.sample(g.animate(m_models=g.apply(motion_lora=varying), context_options=context), steps=3)


def with_settings(g: Parts, **settings):
    return g.animate(sample_settings=g("ADE_AnimateDiffSamplingSettings", **settings))


@graph
def custom_cfg_with_extras(g: Parts):
    extras = g("ADE_CFGExtrasPAGSimple", scale=2.0, prev_extras=g("ADE_CFGExtrasRescaleCFGSimple"))
    first = g(
        "ADE_CustomCFGKeyframe", cfg_extras=extras, cfg_multival=g("ADE_MultivalDynamic", mask_optional=g("TinyMask"))
    )
    then = g("ADE_CustomCFGKeyframeSimple", cfg=1.0, start_percent=0.5, prev_custom_cfg=first)
    g.sample(with_settings(g, custom_cfg=then), steps=4)


@graph
def perturbed_attention_without_motion(g: Parts):
    model = g("ADE_PerturbedAttentionGuidanceMultival", scale_multival=g("ADE_MultivalDynamic", float_val=2.0))
    g.sample(g("ADE_RescaleCFGMultival", model=model))


@graph
def free_init(g: Parts):
    g.sample(with_settings(g, iteration_opts=g("ADE_IterationOptsFreeInit", filter="butterworth")))


@graph
def iterations_in_windows(g: Parts):
    options = g("ADE_IterationOptsDefault", iterations=2, iter_seed_offset=1)
    settings = g("ADE_AnimateDiffSamplingSettings", iteration_opts=options)
    context = g("ADE_LoopedUniformContextOptions")
    g.sample(g.animate(sample_settings=settings, context_options=context))


@graph
def noise_in_layers(g: Parts):
    last = g("ADE_NoiseLayerReplace", noise_type="constant", mask_optional=g("TinyMask"))
    layers = g("ADE_NoiseLayerAddWeighted", seed_gen_override="auto1111", prev_noise_layers=last)
    g.sample(with_settings(g, noise_layers=layers, seed_gen="auto1111", seed_offset=2))


@graph
def free_noise_in_windows(g: Parts):
    settings = g("ADE_AnimateDiffSamplingSettings", noise_type="FreeNoise")
    context = g("ADE_StandardStaticContextOptions")
    g.sample(g.animate(sample_settings=settings, context_options=context))


@graph
def ancestral_noise(g: Parts):
    options = g("ADE_AncestralOptions", noise_type="constant", seed_offset=1)
    g.sample(with_settings(g, ancestral_opts=options), sampler_name="euler_ancestral")


@graph
def sigma_schedule_lcm(g: Parts):
    schedule = g("ADE_RawSigmaSchedule", sampling="lcm")
    g.sample(with_settings(g, sigma_schedule=schedule), sampler_name="lcm", scheduler="sgm_uniform", cfg=1.0)


@graph
def beta_schedule_cosine_without_motion(g: Parts):
    g.sample(g.animate(m_models=None, beta_schedule="cosine"))


@graph
def adjusted_motion_model(g: Parts):
    positions = g("ADE_AdjustPESweetspotStretch", sweetspot=4, new_sweetspot=8)
    settings = g(
        "ADE_AnimateDiffSettings",
        pe_adjust=positions,
        weight_adjust=g("ADE_AdjustWeightIndivAttnMult", attn_k_MULT=1.3),
    )
    motion_model = g("ADE_LoadAnimateDiffModel", ad_settings=settings)
    g.sample(g.animate(m_models=g("ADE_ApplyAnimateDiffModelSimple", motion_model=motion_model)))


@graph
def domain_adapter(g: Parts):
    g.sample(g.animate(g("AnimateDiffLoadDomainAdapter", scale=0.8)))


@graph
def hooks_of_the_host(g: Parts):
    """A LoRA that core's hooks switch on in the second half."""
    first = g("CreateHookKeyframe", strength_mult=0.0, start_percent=0.0)
    keyframes = g("CreateHookKeyframe", strength_mult=1.0, start_percent=0.5, prev_hook_kf=first)
    hooks = g("CreateHookLora", strength_model=1.0, strength_clip=0.0)
    hooks = g("SetHookKeyframes", hooks=hooks, hook_kf=keyframes)
    hooked = g("ConditioningSetProperties", cond_NEW=g("TinyCond"), strength=1.0, hooks=hooks)
    g.sample(g.animate(), positive=hooked, steps=3)


@graph
def two_stages(g: Parts):
    stage = {"model": g.animate(), "positive": g("TinyCond"), "steps": 4}
    latent = g("TinyLatent")
    half = g("KSamplerAdvanced", **stage, latent_image=latent, end_at_step=2, return_with_leftover_noise="enable")
    last = {"add_noise": "disable", "start_at_step": 2, "end_at_step": 4}
    g.keep(g("KSamplerAdvanced", **{**stage, **last}, latent_image=half))


@graph
def image_to_image_behind_a_mask(g: Parts):
    latent = g("SetLatentNoiseMask", samples=g("TinyLatent", seed=21), mask=g("TinyMask"))
    context = g("ADE_StandardStaticContextOptions")
    g.sample(g.animate(context_options=context), latent_image=latent, denoise=0.6, steps=3)


@graph
def prompts_that_change(g: Parts):
    zoom = g("ADE_ValuesReplace", floats=output(g("ADE_ValueScheduling", values="0: = 0.1, 3 = 2"), 1))
    prompts = g("ADE_PromptScheduling", prompts='0 = "a cat `zoom`", 5 = "a dog"', values_replace=zoom)
    g.sample(g.animate(context_options=g("ADE_StandardStaticContextOptions")), positive=prompts)


@graph
def other_guiders(g: Parts):
    guider = g("DualCFGGuider", model=g.animate(), cond1=g("TinyCond"), cond2=g("TinyCond", seed=5), cfg_conds=3.0)
    sampled = g(
        "SamplerCustomAdvanced",
        noise=g("RandomNoise", noise_seed=3),
        guider=guider,
        sampler=g("KSamplerSelect"),
        latent_image=g("TinyLatent", seed=21),
    )
    g.keep(sampled)


@graph
def old_loader(g: Parts):
    g.sample(g("ADE_AnimateDiffLoaderWithContext", apply_v2_models_properly=False, motion_scale=1.2))


@graph
def unloaded(g: Parts):
    g.sample(g("ADE_AnimateDiffUnload", model=g.animate(context_options=g("ADE_BatchedContextOptions"))))


@graph
def core_nodes_around(g: Parts):
    g.sample(g("PerturbedAttentionGuidance", model=g("RescaleCFG", model=g.animate()), scale=2.0))


@graph
def trained_and_used(g: Parts):
    lora = g("AnimateDiffTrainMotionLoRA", learning_rate=0.01)
    g.sample(g.animate(m_models=g.apply(motion_lora=lora)))
