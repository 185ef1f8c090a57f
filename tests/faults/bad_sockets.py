"""Links that bring nothing, or a thing of another kind: through switches, reroutes and nodes of wildcard type.

The first table is made from the nodes themselves: every required socket of every node gets nothing, and so does the first
widget of each.
"""

from __future__ import annotations

import torch
from animatediff_faults_bad_inputs import Bad, bad
from animatediff_faults_parts import Parts
from animatediff_faults_running import output

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def of_nothing(nodes: list[type]) -> list[Bad]:
    cases = []
    for node in nodes:
        schema = node.GET_SCHEMA()
        required = [entry for entry in schema.inputs if not entry.optional]
        sockets = [entry for entry in required if entry.get_io_type() not in WIDGETS]
        widgets = [entry for entry in required if entry.get_io_type() in WIDGETS]
        cases += [bad(schema.node_id, **{entry.id: None}) for entry in (*sockets, *widgets[:1])]
    return cases


def output_of(node_id: str, index: int = 0):
    """The link to a node's output, as what a bad input gets."""

    def link(graph: Parts):
        return graph("Any", value=output(graph(node_id), index))

    link.__doc__ = f"what {node_id} gives"
    return link


MOTION_MODEL, APPLIED = output_of("ADE_LoadAnimateDiffModel"), output_of("ADE_ApplyAnimateDiffModelSimple")
WINDOWS, VIEWS = output_of("ADE_StandardStaticContextOptions"), output_of("ADE_StandardStaticViewOptions")
SETTINGS, CFG = output_of("ADE_AnimateDiffSamplingSettings"), output_of("ADE_CustomCFGSimple")
MULTIVAL, PER_BLOCK = output_of("ADE_MultivalDynamic"), output_of("ADE_PerBlockHighLevel")
APPLY, USE = "ADE_ApplyAnimateDiffModelSimple", "ADE_UseEvolvedSampling"
MIXED_UP = [
    bad(USE, model=MOTION_MODEL),
    bad(USE, model=output_of("TinyLatent")),
    bad(USE, m_models=MOTION_MODEL),
    bad(USE, m_models=output_of("TinyModel")),
    bad(USE, context_options=VIEWS),
    bad(USE, context_options=SETTINGS),
    bad(USE, sample_settings=CFG),
    bad(USE, sample_settings=WINDOWS),
    bad(APPLY, motion_model=APPLIED),
    bad(APPLY, motion_model=output_of("TinyModel")),
    bad(APPLY, "encoder_only", motion_model=output_of("ADE_LoadAnimateLCMI2VModel", 1)),
    bad("ADE_ApplyAnimateLCMI2VModel", "image encoder", motion_model=MOTION_MODEL),
    bad("ADE_ApplyAnimateLCMI2VModel", ref_latent={"samples": torch.zeros(1, 16, 8, 8)}),
    bad("ADE_ApplyAnimateDiffModelWithCameraCtrl", "CameraCtrl", motion_model=MOTION_MODEL),
    bad("ADE_ApplyAnimateDiffModelWithCameraCtrl", cameractrl_poses=[]),
    bad("ADE_ApplyAnimateDiffModelWithCameraCtrl", cameractrl_poses=[[0.0] * 19]),
    bad("AnimateDiffApplyMotionCtrlCamera", "MotionCtrl", motion_model=MOTION_MODEL),
    bad("ADE_LoadAnimateDiffModelWithCameraCtrl", "v1.safetensors", camera_ctrl="v1.safetensors"),
    bad("AnimateDiffLoadMotionModelWithMotionCtrl", "v1.safetensors", motionctrl="v1.safetensors"),
    bad("ADE_InjectI2VIntoAnimateDiffModel", "v1", model_name="v1.safetensors"),
    bad("AnimateDiffCameraPosesFromCameraInfo", "camera_info", start={"position": {}}),
    bad("AnimateDiffCameraPosesFromWanCamera", camera_embedding=torch.zeros(1, 6, 2, 8, 8)),
    bad("AnimateDiffPlotCameraPoses", poses=[]),
    bad(APPLY, motion_lora=MOTION_MODEL),
    bad(APPLY, motion_lora=output_of("AnimateDiffTrainDomainAdapter")),
    bad(APPLY, per_block=MULTIVAL),
    bad(APPLY, ad_keyframes=CFG),
    bad(APPLY, scale_multival=PER_BLOCK),
    bad(APPLY, scale_multival=output_of("TinyPictures")),
    bad(APPLY, told=True, context_options=WINDOWS),
    bad("ADE_PerBlockHighLevel", down=MULTIVAL),
    bad("ADE_ADBlockCombo", effect=PER_BLOCK),
    bad("ADE_AnimateDiffKeyframe", per_block_replace=MULTIVAL),
    bad("ADE_LoadAnimateDiffModel", ad_settings=output_of("ADE_AdjustPESweetspotStretch")),
    bad("ADE_AnimateDiffSettings", pe_adjust=output_of("ADE_AdjustWeightAllAdd")),
    bad("ADE_AnimateDiffSettings", weight_adjust=output_of("ADE_AdjustPESweetspotStretch")),
    bad("ADE_ViewsOnlyContextOptions", view_opts_req=WINDOWS),
    bad("ADE_StandardStaticContextOptions", prev_context=VIEWS),
    bad("ADE_AnimateDiffSamplingSettings", noise_layers=output_of("ADE_IterationOptsDefault")),
    bad("ADE_AnimateDiffSamplingSettings", iteration_opts=output_of("ADE_NoiseLayerAdd")),
    bad("ADE_AnimateDiffSamplingSettings", custom_cfg=output_of("ADE_CFGExtrasPAGSimple")),
    bad("ADE_AnimateDiffSamplingSettings", sigma_schedule=output_of("ADE_SigmaScheduleToSigmas")),
    bad("ADE_AnimateDiffSamplingSettings", ancestral_opts=SETTINGS),
    bad("ADE_AnimateDiffSamplingSettings", image_inject=output_of("ADE_NoisedImageInjectOptions")),
    bad("ADE_NoisedImageInjection", vae=output_of("TinyModel")),
    bad("ADE_NoisedImageInjection", image=output_of("TinyMask")),
    bad("ADE_NoisedImageInjection", img_inject_opts=output_of("ADE_NoisedImageInjection")),
    bad("ADE_NoisedImageInjection", strength_multival=CFG),
    bad("ADE_UpscaleAndVAEEncode", latent_size=output_of("TinyPictures")),
    bad("ADE_SetLoraHookKeyframe", lora_hook=output_of("ADE_LoraHookKeyframe")),
    bad("ADE_SetLoraHookKeyframe", hook_kf=CFG),
    bad("ADE_CombineLoraHooks", lora_hook_B=output_of("ADE_AnimateDiffLoRALoader")),
    bad("ADE_ConditioningSetMask", opt_timesteps=output_of("ADE_ValueScheduling")),
    bad("ADE_PairedConditioningCombine", negative_B=output_of("TinyClip")),
    bad("ADE_CustomCFGSimple", cfg_extras=CFG),
    bad("ADE_PromptScheduling", clip=output_of("TinyModel")),
    bad("ADE_PromptScheduling", values_replace=output_of("ADE_ValueScheduling", 1)),
    bad("ADE_PromptSchedulingLatents", latent=output_of("TinyPictures")),
    bad("ADE_ConditionExtraction", conditioning=output_of("TinyMask")),
    bad("ADE_ValuesReplace", floats=output_of("TinyCond")),
    bad("ADE_SigmaScheduleToSigmas", sigma_schedule=output_of("ADE_SigmaScheduleToSigmas")),
    bad("ADE_CameraManualPoseAppend", poses_first=output_of("ADE_ValueScheduling", 1)),
    bad("AnimateDiffLoadDomainAdapter", model=MOTION_MODEL),
    bad("AnimateDiffSaveMotionLoRA", motion_lora=MOTION_MODEL),
    bad("AnimateDiffSaveMotionModel", motion_model=APPLIED),
    bad("AnimateDiffSaveMotionModel", motion_model=output_of("TinyModel")),
    bad("AnimateDiffSaveDomainAdapter", lora=output_of("ADE_AnimateDiffLoRALoader")),
    bad("AnimateDiffTrainMotionModule", start=APPLIED),
    bad("AnimateDiffTrainMotionLoRA", resume=output_of("AnimateDiffTrainDomainAdapter")),
    bad("AnimateDiffTrainMotionLoRA", latents=output_of("TinyPictures")),
    bad("ADE_AnimateDiffCombine", images=output_of("TinyLatent")),
    bad("AnimateDiffMetrics", images=output_of("TinyMask")),
    bad("AnimateDiffMetrics", clip=output_of("TinyModel")),
    bad("ADE_VisualizeContextOptionsK", context_opts=VIEWS),
    bad("ADE_VisualizeContextOptionsSCustom", sigmas=output_of("ADE_ValueScheduling", 1)),
]
