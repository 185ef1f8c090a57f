"""Numbers, choices, lists and masks that cannot be meant, as they come over links."""

from __future__ import annotations

import math

import torch
from animatediff_faults_bad_inputs import Bad, bad, linked
from animatediff_faults_parts import Parts
from animatediff_faults_stand_ins import FRAMES, seeded

NAN, INF = math.nan, math.inf
EMPTY_MASK = torch.zeros(0, 4, 4)
NAN_MASK = torch.full((1, 4, 4), NAN)

STATIC, UNIFORM = "ADE_StandardStaticContextOptions", "ADE_StandardUniformContextOptions"
LOOPED, BATCHED = "ADE_LoopedUniformContextOptions", "ADE_BatchedContextOptions"
VIEWS = "ADE_StandardStaticViewOptions"
SHARED = "AnimateDiffSharedWindowsContextOptions"
LOOPED_VIEWS = "ADE_LoopedUniformViewOptions"
WINDOWS = [
    *(bad(node, context_length=-3) for node in (STATIC, UNIFORM, LOOPED, BATCHED)),
    *(bad(node, context_overlap=-1) for node in (STATIC, UNIFORM, LOOPED)),
    *(bad(node, context_overlap=4) for node in (STATIC, UNIFORM, LOOPED)),
    bad(STATIC, context_overlap=400),
    *(bad(node, context_stride=0) for node in (UNIFORM, LOOPED)),
    bad(UNIFORM, context_stride=-2),
    bad(STATIC, start_percent=NAN),
    bad(STATIC, fuse_method="lerp"),
    bad(LOOPED, fuse_method="relative mean"),
    bad(BATCHED, context_length=NAN),
    bad(STATIC, context_length="four"),
    bad(VIEWS, view_length=-1),
    bad(VIEWS, view_overlap=-1),
    bad(VIEWS, view_overlap=3),
    bad(VIEWS, fuse_method="mean"),
    bad(LOOPED_VIEWS, view_stride=0),
    bad(SHARED, context_length=-1),
    bad(SHARED, context_overlap=4),
    bad(SHARED, schedule="spiral"),
    bad(SHARED, one_motion=NAN),
    bad(SHARED, one_motion=1.5),
    bad(SHARED, cut_off=-0.1),
    bad(SHARED, cut_off=NAN),
    bad(SHARED, one_motion_end_percent=NAN),
    bad(SHARED, frames_at_once=-1),
    bad(SHARED, fuse_method="lerp"),
    bad("ADE_AnimateDiffLoaderV1Advanced", context_length=-4),
    bad("ADE_AnimateDiffLoaderV1Advanced", context_overlap=16),
    bad("ADE_AnimateDiffLoaderV1Advanced", context_stride=0),
]


class VideoVae:
    """As far as it is looked at."""

    latent_dim, latent_channels = 3, 16

    def encode(self, pictures):
        return torch.zeros(1, 16, len(pictures), 8, 8)

    decode = encode


INJECTION, KEYFRAMES = "ADE_NoisedImageInjection", "ADE_LoraHookKeyframeInterpolation"
PICTURES_AND_HOOKS = [
    bad(INJECTION, guarantee_steps=0),
    bad(INJECTION, guarantee_steps=NAN),
    bad(INJECTION, guarantee_steps=1 << 62, bounded=True),
    bad(INJECTION, start_percent=NAN),
    bad(INJECTION, mask_opt=NAN_MASK),
    bad(INJECTION, mask_opt=EMPTY_MASK),
    bad(INJECTION, strength_multival=NAN),
    bad(INJECTION, image=torch.zeros(0, 8, 8, 3)),
    bad(INJECTION, vae=VideoVae()),
    bad("ADE_NoisedImageInjectOptions", composite_x=-8),
    bad("ADE_NoisedImageInjectOptions", composite_y=1 << 62, bounded=True),
    bad("ADE_UpscaleAndVAEEncode", vae=VideoVae()),
    bad("ADE_UpscaleAndVAEEncode", scale_method="nearest"),
    bad("ADE_UpscaleAndVAEEncode", "frame", latent_size={"samples": torch.zeros(1, 16, 2, 8, 8)}),
    bad("ADE_RegisterLoraHookModelOnly", strength_model=NAN),
    bad("ADE_RegisterLoraHookModelOnly", lora_name="none.safetensors"),
    bad("ADE_LoraHookKeyframe", strength_model=INF),
    bad("ADE_LoraHookKeyframe", guarantee_steps=-1),
    bad(KEYFRAMES, intervals=1_000_000_000),
    bad(KEYFRAMES, intervals=0),
    bad(KEYFRAMES, interpolation="ease"),
    bad("ADE_LoraHookKeyframeFromStrengthList", strengths_float=[0.5, NAN]),
    bad("ADE_LoraHookKeyframeFromStrengthList", strengths_float=[0.5] * 100_000),
    bad("ADE_ConditioningSetMask", opt_mask=NAN_MASK),
    bad("ADE_ConditioningSetMask", strength=INF),
]


def clip_of(frames: int):
    return linked(f"clip of {frames}", {"samples": torch.zeros(frames, 4, 8, 8)})


def animated(graph: Parts):
    """the MODEL of Use Evolved Sampling"""
    return graph.animate()


def windows_at_apply(graph: Parts):
    """windows at Apply, which has no such input"""
    return graph.animate(m_models=graph.apply(context_options=graph(STATIC)))


def long_windows(graph: Parts):
    """windows of 40"""
    return graph.animate(context_options=graph(STATIC, context_length=40))


def two_motion_models(graph: Parts):
    """two motion models"""
    first = graph.apply(end_percent=0.5)
    return graph.animate(m_models=graph.apply(start_percent=0.5, prev_m_models=first))


CLIPS = [
    bad("KSampler", ("40 frames", "Context Options"), model=animated, latent_image=clip_of(40)),
    bad("KSampler", ("40 frames", "Use Evolved Sampling"), model=windows_at_apply, latent_image=clip_of(40)),
    bad("KSampler", ("40 frames", "context_length"), model=long_windows, latent_image=clip_of(60)),
    bad("KSampler", "latents", model=animated, latent_image=linked("5-D", {"samples": torch.zeros(1, 4, 6, 8, 8)})),
    bad("KSampler", "latents", model=animated, latent_image=linked("3-D", {"samples": torch.zeros(4, 8, 8)})),
    bad("KSampler", "latents", model=animated, latent_image=clip_of(0)),
]
APPLY = "ADE_ApplyAnimateDiffModel"
STRENGTHS = [
    bad(APPLY, ("start_percent", "end_percent"), told=True, start_percent=0.8, end_percent=0.2),
    bad(APPLY, ("start_percent", "end_percent"), told=True, start_percent=0.5, end_percent=0.5),
    bad(APPLY, start_percent=NAN),
    bad(APPLY, end_percent=NAN),
    bad(APPLY, scale_multival="strong"),
    bad(APPLY, scale_multival=NAN),
    bad(APPLY, effect_multival=INF),
    bad(APPLY, effect_multival=NAN_MASK),
    bad("ADE_MultivalDynamic", float_val=[]),
    bad("ADE_MultivalDynamic", float_val=["a lot"]),
    bad("ADE_MultivalDynamic", float_val=[1.0, NAN]),
    bad("ADE_MultivalDynamic", float_val=NAN),
    bad("ADE_MultivalDynamic", mask_optional=EMPTY_MASK),
    bad("ADE_MultivalDynamic", mask_optional=torch.zeros(2, 0, 4)),
    bad("ADE_MultivalDynamicFloatInput", float_val="0.5, 0.7"),
    bad("ADE_MultivalDynamicFloats", floats=[]),
    bad("ADE_MultivalDynamicFloats", floats="0.5"),
    bad("ADE_MultivalScaledMask", min_float_val=NAN),
    bad("ADE_MultivalScaledMask", mask=EMPTY_MASK),
    bad("ADE_MultivalScaledMask", mask=NAN_MASK),
    bad("ADE_MultivalScaledMask", scaling="log"),
    bad("ADE_AnimateDiffKeyframe", start_percent=NAN),
    *(
        bad(f"ADE_PerBlock_{family}_FromFloats", (f"effect_{count}_floats",), **{f"effect_{count}_floats": value})
        for family, count in (("SD15", 21), ("SDXL", 16))
        for value in ([], ["a"])
    ),
    *(bad(f"ADE_PerBlock_{family}_MidLevel", ("v2", "AD Per Block")) for family in ("SD15", "SDXL")),
]
SETTINGS = "ADE_AnimateDiffSamplingSettings"
ITERATIONS, FREE_INIT = "ADE_IterationOptsDefault", "ADE_IterationOptsFreeInit"
NOISE = [
    bad(SETTINGS, batch_offset=-1),
    bad(SETTINGS, bounded=True, batch_offset=9007199254740991),
    bad(SETTINGS, noise_type="perlin"),
    bad(SETTINGS, seed_gen="cpu"),
    bad(SETTINGS, seed_override=[]),
    bad(SETTINGS, seed_override=[1, 2]),
    bad(SETTINGS, seed_override="seven"),
    bad(SETTINGS, seed_override=["a"] * FRAMES),
    bad(SETTINGS, seed_offset=NAN),
    bad(SETTINGS, image_inject="a picture"),
    bad("ADE_NoiseLayerAdd", noise_weight=NAN),
    bad("ADE_NoiseLayerAdd", batch_offset=-2),
    bad("ADE_NoiseLayerAdd", bounded=True, batch_offset=9007199254740991),
    bad("ADE_NoiseLayerAdd", noise_type="pink"),
    bad("ADE_NoiseLayerAdd", seed_gen_override="numpy"),
    bad("ADE_NoiseLayerAddWeighted", balance_multiplier=NAN),
    bad("ADE_NoiseLayerNormalizedSum", noise_weight=INF),
    bad("ADE_NoiseLayerReplace", mask_optional=EMPTY_MASK),
    bad("ADE_NoiseLayerReplace", mask_optional=NAN_MASK),
    bad("ADE_AncestralOptions", seed_override=[1, 2, 3]),
    bad("ADE_AncestralOptions", noise_type="brownian"),
    *(bad(node, iterations=count) for node in (ITERATIONS, FREE_INIT) for count in (0, -1)),
    bad(ITERATIONS, iter_batch_offset=-5),
    bad(ITERATIONS, bounded=True, iter_batch_offset=9007199254740991, iterations=2),
    bad(FREE_INIT, filter="brick wall"),
    bad(FREE_INIT, d_s=NAN),
    bad(FREE_INIT, d_t=-0.5),
    bad(FREE_INIT, n_butterworth=0, filter="butterworth"),
    bad(FREE_INIT, sigma_step=5000),
    bad(FREE_INIT, sigma_step=-5000),
    bad(FREE_INIT, init_type="FreeInit 2"),
]
RAW = "ADE_RawSigmaSchedule"


def lcm_schedule(graph: Parts):
    """an LCM schedule"""
    return graph(RAW, sampling="lcm")


GUIDANCE = [
    bad("ADE_CustomCFGSimple", cfg=NAN),
    bad("ADE_CustomCFGSimple", cfg=INF),
    bad("ADE_CustomCFG", cfg_multival=NAN_MASK),
    bad("ADE_CustomCFG", cfg_multival="7.5"),
    bad("ADE_CustomCFGKeyframeSimple", start_percent=NAN),
    bad("ADE_CustomCFGKeyframeFromList", cfgs_float=[]),
    bad("ADE_CustomCFGKeyframeFromList", cfgs_float=["high", "low"]),
    bad("ADE_CustomCFGKeyframeFromList", cfgs_float=[7.0, NAN]),
    bad("ADE_CustomCFGKeyframeInterpolation", intervals=0),
    bad("ADE_CustomCFGKeyframeInterpolation", intervals=-3),
    bad("ADE_CustomCFGKeyframeInterpolation", interpolation="cubic"),
    bad("ADE_CustomCFGKeyframeInterpolation", cfg_start=NAN),
    bad("ADE_CFGExtrasPAGSimple", scale=NAN),
    bad("ADE_CFGExtrasPAG", scale_multival=NAN_MASK),
    bad("ADE_CFGExtrasRescaleCFGSimple", multiplier=NAN),
    bad("ADE_CFGExtrasRescaleCFG", mult_multival="most"),
    bad("ADE_PerturbedAttentionGuidanceMultival", scale_multival=NAN),
    bad("ADE_RescaleCFGMultival", mult_multival=NAN),
]
SCHEDULES = [
    bad(RAW, ("linear_start", "linear_end"), linear_start=0.012, linear_end=0.012),
    bad(RAW, ("linear_start", "linear_end"), linear_start=0.012, linear_end=0.00085),
    bad(RAW, ("linear_start",), linear_start=0.0, linear_end=0.0),
    bad(RAW, linear_end=NAN),
    bad(RAW, lcm_original_timesteps=0, sampling="lcm"),
    bad(RAW, lcm_original_timesteps=-2, sampling="lcm"),
    bad(RAW, lcm_original_timesteps=5000, sampling="lcm"),
    bad(RAW, sampling="flow"),
    bad(RAW, raw_beta_schedule="quadratic"),
    bad("ADE_SigmaSchedule", beta_schedule="beta"),
    bad("ADE_UseEvolvedSampling", beta_schedule="linear"),
    bad("ADE_SigmaScheduleWeightedAverage", ("noise levels",), schedule_B=lcm_schedule),
    bad("ADE_SigmaScheduleWeightedAverage", weight_A=NAN),
    bad("ADE_SigmaScheduleWeightedAverageInterp", ("noise levels",), schedule_A=lcm_schedule),
    bad("ADE_SigmaScheduleWeightedAverageInterp", interpolation="spline"),
    bad("ADE_SigmaScheduleSplitAndCombine", idx_split_percent=NAN),
    bad("ADE_SigmaScheduleSplitAndCombine", ("noise levels",), schedule_End=lcm_schedule),
    bad("ADE_SigmaScheduleToSigmas", steps=0),
    bad("ADE_SigmaScheduleToSigmas", steps=-4),
    bad("ADE_SigmaScheduleToSigmas", scheduler="fast"),
    bad("ADE_SigmaScheduleToSigmas", denoise=NAN),
    bad("CheckpointLoaderSimpleWithNoiseSelect", scale_factor=0.0, use_custom_scale_factor=True),
    bad("CheckpointLoaderSimpleWithNoiseSelect", scale_factor=NAN, use_custom_scale_factor=True),
    bad("CheckpointLoaderSimpleWithNoiseSelect", beta_schedule="karras"),
]
LORAS = [
    bad("ADE_AnimateDiffLoRALoader", strength=NAN),
    bad("ADE_AnimateDiffLoRALoader", strength="full"),
    bad("AnimateDiffScheduleMotionLoRA", interpolation="spline"),
    bad("AnimateDiffScheduleMotionLoRA", mask=EMPTY_MASK),
    bad("AnimateDiffScheduleMotionLoRA", mask=NAN_MASK),
    bad("AnimateDiffLoadDomainAdapter", scale=NAN),
    bad("AnimateDiffLoadDomainAdapter", scale=INF),
]
ADJUSTMENTS = [
    bad("ADE_AdjustPEFullStretch", pe_stretch=-5),
    bad("ADE_AdjustPEFullStretch", pe_stretch=NAN),
    bad("ADE_AdjustPEFullStretch", bounded=True, pe_stretch=200_000),
    bad("ADE_AdjustPESweetspotStretch", sweetspot=-1),
    bad("ADE_AdjustPESweetspotStretch", new_sweetspot=-8),
    bad("ADE_AdjustPESweetspotStretch", bounded=True, sweetspot=1, new_sweetspot=500_000),
    bad("ADE_AdjustPEManual", "offset", initial_pe_idx_offset=99),
    bad("ADE_AdjustPEManual", "offset", final_pe_idx_offset=32),
    bad("ADE_AdjustPEManual", bounded=True, interpolate_pe_to_length=10_000_000),
    bad("ADE_AdjustPEManual", cap_initial_pe_length=-2),
    bad("ADE_AdjustWeightAllAdd", all_ADD=NAN),
    bad("ADE_AdjustWeightAllMult", all_MULT=INF),
    bad("ADE_AdjustWeightIndivAttnMult", attn_k_MULT=NAN),
    bad("ADE_AnimateDiffModelSettings", pe_strength=NAN),
    bad("ADE_AnimateDiffModelSettingsSimple", bounded=True, motion_pe_stretch=10_000_000),
    bad("ADE_AnimateDiffModelSettings_Release", mask_motion_scale=EMPTY_MASK),
    bad("ADE_AnimateDiffModelSettings_Release", min_motion_scale=NAN),
    bad("ADE_AnimateDiffLoaderWithContext", motion_scale=NAN),
]
CAMERA = "ADE_CameraPoseBasic"
POSES = [
    bad(CAMERA, frame_length=0),
    bad(CAMERA, frame_length=-16),
    bad(CAMERA, bounded=True, frame_length=1_000_000),
    bad(CAMERA, bounded=True, frame_length=10**12),
    bad(CAMERA, speed=NAN),
    bad(CAMERA, speed=INF),
    bad(CAMERA, motion_type="Pan Sideways"),
    bad("ADE_CameraPoseCombo", motion_type3="Dolly"),
    bad("ADE_CameraPoseAdvanced", strength2=NAN),
    bad("ADE_CameraManualPoseAppend", poses_first=[[1.0, 2.0]]),
    bad("ADE_CameraManualPoseAppend", poses_last="poses"),
    bad("ADE_ReplaceCameraParameters", fx=NAN),
    bad("ADE_ReplaceOriginalPoseAspectRatio", orig_pose_width=0),
    bad("ADE_ReplaceOriginalPoseAspectRatio", orig_pose_height=NAN),
]
COMBINE, METRICS = "ADE_AnimateDiffCombine", "AnimateDiffMetrics"
PICTURES = seeded(3, 16, 16, 3).sigmoid()
OUTPUTS = [
    bad(COMBINE, images=PICTURES[:0]),
    bad(COMBINE, images=torch.zeros(1, 3, 16, 16, 3)),
    bad(COMBINE, images=torch.zeros(3, 0, 16, 3)),
    bad(COMBINE, "pictures", images=torch.zeros(3, 16, 16, 7)),
    bad(COMBINE, frame_rate=0),
    bad(COMBINE, frame_rate=-8),
    bad(COMBINE, frame_rate=NAN),
    bad(COMBINE, loop_count=-1),
    bad(COMBINE, bounded=True, loop_count=10**9, format="video/webm"),
    bad(COMBINE, "pixels", images=torch.zeros(2, 1, 1, 3), format="video/h264-mp4"),
    bad(COMBINE, format="lerp"),
    bad(COMBINE, filename_prefix="../../../outside"),
    bad(COMBINE, filename_prefix="/etc/clip"),
    bad(METRICS, images=PICTURES[:0]),
    bad(METRICS, images=torch.zeros(1, 3, 16, 16, 3)),
    bad(METRICS, images=torch.full((3, 16, 16, 3), NAN)),
    bad(METRICS, context_length=-2),
    bad(METRICS, context_overlap=4, context_length=4, images=seeded(8, 16, 16, 3).sigmoid()),
    bad("ADE_EmptyLatentImageLarge", batch_size=0),
    bad("ADE_EmptyLatentImageLarge", batch_size=-4),
    bad("ADE_EmptyLatentImageLarge", width=0),
    bad("ADE_EmptyLatentImageLarge", "batch_size", width=16384, height=16384, batch_size=262144),
    *(
        bad(f"AnimateDiffSave{what}", filename_prefix=prefix)
        for what in ("MotionLoRA", "MotionModel")
        for prefix in ("../../../outside", "/etc/lora")
    ),
    bad("AnimateDiffSaveMotionLoRA", dtype="int8"),
    bad("AnimateDiffSaveMotionLoRA", format="kohya"),
    bad("AnimateDiffSaveMotionModel", format="onnx"),
    bad("AnimateDiffSaveMotionModel", dtype="float8"),
    bad("AnimateDiffSaveMotionLoRA", motion_lora=()),
    bad("AnimateDiffSaveDomainAdapter", lora={}),
    bad("AnimateDiffSaveDomainAdapter", "NaN", lora={"a.lora_up.weight": torch.full((2, 2), NAN)}),
]
EXTRACT, MERGE_LORAS = "AnimateDiffExtractMotionLoRA", "AnimateDiffMergeMotionLoRAs"


def without_mid(graph: Parts):
    """a motion model without a mid block"""
    return graph("ADE_LoadAnimateDiffModel", model_name="v1.safetensors")


def scheduled(graph: Parts):
    """a MotionLoRA whose strength varies"""
    return graph("AnimateDiffScheduleMotionLoRA")


MERGING = [
    bad("AnimateDiffMergeMotionModels", ("v1", "v2"), motion_model_2=without_mid),
    bad("AnimateDiffMergeMotionModels", weight=NAN),
    bad("AnimateDiffAddMotionModelDifference", ("v1", "v2"), minus=without_mid),
    bad("AnimateDiffAddMotionModelDifference", strength=INF),
    bad(EXTRACT, ("v1", "v2"), goal=without_mid),
    bad(EXTRACT, rank=0),
    bad(EXTRACT, rank=-4),
    bad(EXTRACT, rank=NAN),
    bad(EXTRACT, layers="convolutions"),
    bad(EXTRACT, clamp_quantile=0),
    bad(EXTRACT, clamp_quantile=1.5),
    bad(EXTRACT, clamp_quantile=NAN),
    bad(MERGE_LORAS, motion_lora=()),
    bad(MERGE_LORAS, rank=-1),
    bad(MERGE_LORAS, ("strength",), motion_lora=scheduled),
    bad("AnimateDiffMergeMotionLoRAsIntoModel", ("strength",), motion_lora=scheduled),
]
LOOPS = [
    bad("AnimateDiffWindowBatch", windows_at_once=-1),
    bad("AnimateDiffWindowBatch", windows_at_once=NAN),
    bad("AnimateDiffReuseMotion", every=0),
    bad("AnimateDiffReuseMotion", every=NAN),
    bad("AnimateDiffReuseMotion", start_percent=NAN),
    bad("AnimateDiffReuseMotion", end_percent=NAN),
    bad("AnimateDiffFollowPath", noise=2),
    bad("AnimateDiffFollowPath", noise=-0.5),
    bad("AnimateDiffFollowPath", attention=-1),
    bad("AnimateDiffFollowPath", attention=NAN),
    bad("AnimateDiffFollowPath", end_percent=NAN),
    bad("AnimateDiffMotionAmount", amount=-1),
    bad("AnimateDiffMotionAmount", amount=3),
    bad("AnimateDiffMotionAmount", amount=NAN),
    bad("AnimateDiffPromptScheduling", keep_apart=-1, prompts='"0": "a cat"'),
    bad("AnimateDiffPromptScheduling", keep_apart=NAN, prompts='"0": "a cat"'),
    bad("AnimateDiffPromptScheduling", transition=9999, keep_apart=5, prompts='"0": "a cat"'),
    bad("AnimateDiffMotionPath", box_width=0),
    bad("AnimateDiffMotionPath", box_height=200),
    bad("AnimateDiffMotionPath", ease="spring"),
    bad("AnimateDiffMotionPathFromMasks", masks=torch.zeros(4, 8, 8)),
    bad("AnimateDiffMotionPathFromMasks", masks=NAN_MASK),
    bad("AnimateDiffMotionPathFromMasks", margin=-1),
    bad("AnimateDiffMotionPathFromMasks", frames=-4),
    bad("AnimateDiffMotionPathFromClip", "Nothing moves", images=torch.zeros(4, 8, 8, 3)),
    bad("AnimateDiffMotionPathFromClip", "has 1 frames", images=torch.zeros(1, 8, 8, 3)),
    bad("AnimateDiffMotionPathFromClip", "clip", images=torch.full((4, 8, 8, 3), NAN)),
    bad("AnimateDiffMotionPathFromClip", "both", latents={"samples": torch.zeros(4, 4, 8, 8)}),
    bad("AnimateDiffMotionPathFromClip", margin=-1),
    bad("AnimateDiffMotionPathFromClip", frames=-4),
    bad("AnimateDiffCameraPath", noise=2),
    bad("AnimateDiffCameraPath", noise=NAN),
    bad("AnimateDiffCameraPath", ease="spring"),
    bad("AnimateDiffCameraPathFromPoses", depth=0),
    bad("AnimateDiffCameraPathFromPoses", depth=NAN),
    bad("AnimateDiffCameraPathFromPoses", "poses", poses=[]),
    bad("AnimateDiffCameraPathFromPoses", noise=-1),
    bad("AnimateDiffCameraPathFromPoses", width=0),
    bad("AnimateDiffMotionPathFromTracks", tracks={"track_path": torch.zeros(0, 1, 2)}),
    bad("AnimateDiffMotionPathFromTracks", width=0),
    bad("AnimateDiffMotionPathFromTracks", "pixels", tracks={"track_path": torch.full((4, 1, 2), 1e6)}),
    bad("AnimateDiffDrawMotionPath", frames=0),
    bad("AnimateDiffDrawMotionPath", frames=10**9),
    bad("AnimateDiffSeamlessLoop", context_length=-3),
    bad("AnimateDiffSeamlessLoop", context_overlap=4),
    bad("AnimateDiffSeamlessLoop", shared_noise=-0.5),
    bad("AnimateDiffSeamlessLoop", shared_noise=2),
    bad("AnimateDiffSeamlessLoop", shared_noise=NAN),
    bad("AnimateDiffInBetweenFrames", between=0),
    bad("AnimateDiffInBetweenFrames", between=10**9),
    bad("AnimateDiffInBetweenFrames", between=NAN),
    bad("AnimateDiffInBetweenFrames", "latents", samples={"samples": torch.zeros(1, 4, 3, 8, 8)}),
]
SHOW, SHOW_SIGMAS = "ADE_VisualizeContextOptionsK", "ADE_VisualizeContextOptionsSCustom"
VISUALIZE = [
    bad(SHOW, latents_length=0),
    bad(SHOW, latents_length=-3),
    bad(SHOW, latents_length=10**9),
    bad(SHOW, steps=0),
    bad(SHOW, steps=-1),
    bad(SHOW, bounded=True, steps=10**9),
    bad(SHOW, visual_width=0),
    bad(SHOW, bounded=True, visual_width=10**9),
    bad(SHOW, sampler_name="fast"),
    bad(SHOW, scheduler="slow"),
    bad(SHOW, denoise=NAN),
    bad("ADE_VisualizeContextOptionsKAdv", "step", start_step=2, end_step=1),
    bad(SHOW_SIGMAS, sigmas=torch.zeros(0)),
    bad(SHOW_SIGMAS, sigmas=torch.ones(1)),
    bad(SHOW_SIGMAS, sigmas=torch.tensor([NAN, 1.0, 0.0])),
    bad("AnimateDiffVisualizeFuseWeights", latents_length=10**9),
]
TRAIN, ADAPTER, MODULE = (f"AnimateDiffTrain{what}" for what in ("MotionLoRA", "DomainAdapter", "MotionModule"))

OPTIONS, CHECKPOINTS, VALIDATION = (f"AnimateDiffTraining{what}" for what in ("Options", "Checkpoints", "Validation"))


def plain_model(graph: Parts):
    """a MODEL without motion model"""
    return graph("TinyModel")


def other_network(graph: Parts):
    """a MODEL of another kind of network"""
    return graph("OtherModel")


def clips(name: str, *samples: torch.Tensor):
    return linked(f"clips: {name}", [{"samples": one} for one in samples], as_list=True)


def several(graph: Parts):
    """two numbers of steps"""
    return linked("two steps", [2, 3], as_list=True)(graph)


def two_captions(graph: Parts):
    """two captions"""
    conds = [[[seeded(1, 7, 16, seed=seed), {"pooled_output": None}]] for seed in (1, 2)]
    return linked("two captions", conds, as_list=True)(graph)


GOOD_CLIP = seeded(FRAMES, 4, 8, 8)
TRAINING = [
    *(bad(node, steps=steps) for node in (TRAIN, ADAPTER, MODULE) for steps in (0, -10)),
    *(bad(node, batch=0) for node in (TRAIN, ADAPTER, MODULE)),
    *(bad(node, learning_rate=NAN) for node in (TRAIN, ADAPTER, MODULE)),
    bad(TRAIN, learning_rate=-0.1),
    bad(TRAIN, frames=0),
    bad(TRAIN, frames=33),
    bad(MODULE, frames=33, latents=clips("long", seeded(40, 4, 8, 8))),
    bad(MODULE, frames=-4),
    *(bad(node, rank=rank) for node in (TRAIN, ADAPTER) for rank in (0, -1)),
    *(bad(node, alpha=NAN) for node in (TRAIN, ADAPTER)),
    *(
        bad(node, ("start_percent", "end_percent"), start_percent=0.7, end_percent=0.2)
        for node in (TRAIN, ADAPTER, MODULE)
    ),
    bad(TRAIN, start_percent=NAN),
    bad(TRAIN, caption_dropout=NAN),
    bad(TRAIN, optimizer="Lamb"),
    *(bad(node, ("optimizer", "learning_rate"), optimizer="SGD") for node in (TRAIN, ADAPTER, MODULE)),
    bad(TRAIN, optimizer="AdamW 8-bit"),
    bad(TRAIN, learning_rate_schedule="linear"),
    bad(TRAIN, loss="mse"),
    bad(TRAIN, precision="int8"),
    bad(MODULE, layout="v4"),
    bad(MODULE, beta_schedule="linear"),
    bad(TRAIN, "batch", noise_pairs=True, batch=1),
    bad(TRAIN, "steps", steps=several),
    bad(TRAIN, "MODEL", model=plain_model),
    bad(TRAIN, "MODEL", model=two_motion_models),
    *(bad(node, "checkpoint", model=other_network) for node in (ADAPTER, MODULE)),
    bad(TRAIN, "Clip 1", latents=clips("of 16 channels", seeded(FRAMES, 16, 8, 8))),
    bad(TRAIN, "Clip 1", latents=clips("too short", GOOD_CLIP[:2])),
    bad(TRAIN, "clip 1", latents=clips("NaN", GOOD_CLIP * NAN)),
    bad(TRAIN, "latents", latents=clips("none")),
    *(bad(OPTIONS, **{name: NAN}) for name in ("ema", "min_snr_gamma", "noise_offset")),
    *(bad(OPTIONS, **{name: -1}) for name in ("ema", "min_snr_gamma", "noise_offset", "warmup_steps", "accumulate")),
    bad(OPTIONS, ema=1.0),
    bad(OPTIONS, accumulate=0),
    bad(OPTIONS, warmup_steps=500),
    *(bad(OPTIONS, ranks=text) for text in ("to_v", "to_v: -2", "to_v: 1000000000", "to_x: 8")),
    bad(CHECKPOINTS, every=0),
    bad(CHECKPOINTS, keep=0),
    bad(CHECKPOINTS, filename_prefix="../elsewhere"),
    bad(VALIDATION, every=0),
    bad(VALIDATION, "held-out", latents=clips("held out, too short", GOOD_CLIP[:2])),
    bad(VALIDATION, "every", every=several),
    bad("AnimateDiffTrainingPaths", noise=2),
    bad("AnimateDiffTrainingPaths", noise=NAN),
    bad("AnimateDiffTrainingPaths", "noise", noise=several),
    bad("AnimateDiffTrainingPaths", attention=-1),
    bad("AnimateDiffTrainingPaths", attention=NAN),
    bad(TRAIN, "conditioning", latents=clips("three", GOOD_CLIP, GOOD_CLIP, GOOD_CLIP), positive=two_captions),
]


ALL: dict[str, list[Bad]] = {
    "windows": WINDOWS,
    "clips": CLIPS,
    "strengths": STRENGTHS,
    "noise": NOISE,
    "guidance": GUIDANCE,
    "noise schedules": SCHEDULES,
    "LoRA nodes": LORAS,
    "injected pictures and hooks": PICTURES_AND_HOOKS,
    "adjustments": ADJUSTMENTS,
    "camera poses": POSES,
    "saving and measuring": OUTPUTS,
    "merging": MERGING,
    "loops and in-between frames": LOOPS,
    "visualising": VISUALIZE,
    "training": TRAINING,
}
