"""The host contract: every internal of ComfyUI that this pack relies on, and what it is needed for.

``CONTRACT`` is one table. A line that is not indented says what the lines below it are needed for, in words that fit
behind "needed for". A row says what must be there, in one of four notations:

* ``comfy.samplers.KSampler.SAMPLERS``: a name.
* ``comfy.utils.load_torch_file(_, safe_load=)``: something that can be called so. Where a positional argument has a
  name, it must have that name there: our wrappers take the host's arguments in its order, and our classes override.
* ``comfy.samplers.CFGGuider().conds``: an attribute of the instances of a class.
* ``'cond_or_uncond' in comfy.samplers``: a key of a dictionary, or a name in quotes, that is in a module's source.

``since``: the first of the supported releases that has it. Without it, the oldest has it; with it, ``host/`` can do
without. ``lacking.py`` checks the rows when ComfyUI starts, ``startup.py`` leaves out what cannot work, and
``tests/hosts/test_contract.py`` checks them on every supported release, and that no import lacks its row.
"""

from typing import NamedTuple

# The releases that the pack is tested in, the oldest and the newest of them.
OLDEST, NEWEST = "0.3.75", "0.30.0"

CONTRACT = """
every node
    comfy_api.latest.ComfyExtension
    comfy_api.latest.io.ComfyNode.GET_SCHEMA()
    comfy_api.latest.io.ComfyNode.define_schema()
    comfy_api.latest.io.ComfyNode.execute()
    comfy_api.latest.io.ComfyNode.validate_inputs()
    comfy_api.latest.io.ComfyNode.fingerprint_inputs()
    comfy_api.latest.io.ComfyNode.hidden
    comfy_api.latest.io.Input.get_io_type()
    comfy_api.latest.io.Input().id
    comfy_api.latest.io.Input().optional
    comfy_api.latest.io.Schema(node_id=, display_name=, category=, description=, inputs=, outputs=)
    comfy_api.latest.io.Schema(node_id=, hidden=, is_input_list=, is_output_node=)
    comfy_api.latest.io.NodeOutput(_, _, ui=)
    comfy_api.latest.io.Hidden.prompt
    comfy_api.latest.io.Hidden.extra_pnginfo
    comfy_api.latest.io.Hidden.unique_id

nodes with such inputs or outputs
    comfy_api.latest.io.Custom(_)
    comfy_api.latest.io.Input
    comfy_api.latest.io.Output
    comfy_api.latest.io.Boolean.Input(_, default=, optional=, tooltip=)
    comfy_api.latest.io.Combo.Input(_, options=, default=, optional=, tooltip=)
    comfy_api.latest.io.Combo.Input().options
    comfy_api.latest.io.Float.Input(_, default=, min=, max=, step=, round=, force_input=, optional=, tooltip=)
    comfy_api.latest.io.Int.Input(_, default=, min=, max=, step=, force_input=, optional=, tooltip=)
    comfy_api.latest.io.String.Input(_, default=, multiline=, force_input=, optional=, tooltip=)
    comfy_api.latest.io.Clip.Input(_, optional=, tooltip=)
    comfy_api.latest.io.ClipVision.Input(_, optional=, tooltip=)
    comfy_api.latest.io.Conditioning.Input(_, optional=, tooltip=)
    comfy_api.latest.io.Image.Input(_, optional=, tooltip=)
    comfy_api.latest.io.Latent.Input(_, optional=, tooltip=)
    comfy_api.latest.io.Mask.Input(_, optional=, tooltip=)
    comfy_api.latest.io.Model.Input(_, optional=, tooltip=)
    comfy_api.latest.io.Sigmas.Input(_, optional=, tooltip=)
    comfy_api.latest.io.Vae.Input(_, optional=, tooltip=)
    comfy_api.latest.io.ControlNet.Input(_, tooltip=)
    comfy_api.latest.io.ControlNet.Output(_)
    comfy_api.latest.io.Clip.Output(_, tooltip=)
    comfy_api.latest.io.Conditioning.Output(_, _, is_output_list=, tooltip=)
    comfy_api.latest.io.Float.Output(_, tooltip=)
    comfy_api.latest.io.Image.Output(_, tooltip=)
    comfy_api.latest.io.Int.Output(_, tooltip=)
    comfy_api.latest.io.Latent.Output(_, is_output_list=, tooltip=)
    comfy_api.latest.io.Mask.Output(_, tooltip=)
    comfy_api.latest.io.Model.Output(_, tooltip=)
    comfy_api.latest.io.Sigmas.Output(_, tooltip=)
    comfy_api.latest.io.String.Output(_, tooltip=)
    comfy_api.latest.io.Vae.Output(_, tooltip=)

files in the folders of models
    folder_paths.models_dir
    folder_paths.folder_names_and_paths
    folder_paths.supported_pt_extensions
    folder_paths.add_model_folder_path(_, _)
    folder_paths.get_filename_list(_)
    folder_paths.get_full_path_or_raise(_, _)

changes of a workflow that read no file again
    comfy_execution.progress.get_progress_state()

motion models whose memory is free before the next one comes
    comfy.memory_management.extra_ram_release(_)  since 0.24.0
    comfy.cli_args.args.cache_ram
    comfy.model_management.total_ram

weights that are read and not mapped
    comfy.utils.DISABLE_MMAP

marks and aliases of nodes in the menus
    comfy_api.latest.io.Schema().is_deprecated
    comfy_api.latest.io.Schema().search_aliases  since 0.16.3

seeds of training that stay as they are from run to run
    comfy_api.latest.io.ControlAfterGenerate.fixed  since 0.16.3
    comfy_api.latest.io.Int.Input(_, control_after_generate=)

messages that name the release
    comfyui_version.__version__

camera poses from files
    folder_paths.base_path
    folder_paths.models_dir
    folder_paths.get_output_directory()
    folder_paths.get_temp_directory()
    folder_paths.get_input_directory()
    folder_paths.get_annotated_filepath(_)

motion models
    comfy.utils.load_torch_file(_, safe_load=, return_metadata=)
    comfy.model_patcher.ModelPatcher(_, load_device=, offload_device=)
    comfy.model_patcher.ModelPatcher.is_dynamic()  since 0.16.3
    comfy.model_patcher.ModelPatcher().offload_device
    comfy.model_patcher.ModelPatcher.clone()
    comfy.model_patcher.ModelPatcher.set_attachments(_, _)
    comfy.model_patcher.ModelPatcher.get_attachment(_)
    comfy.model_patcher.ModelPatcher.get_key_patches()
    comfy.model_patcher.ModelPatcher().model
    comfy.model_patcher.ModelPatcher().patches
    comfy.model_patcher.ModelPatcher().patches_uuid
    comfy.model_management.get_torch_device()
    comfy.model_management.unet_dtype()
    comfy.model_management.unet_offload_device()
    comfy.model_management.cpu_mode()
    comfy.model_management.pytorch_attention_enabled()
    comfy.ops.manual_cast.GroupNorm(_, _, eps=, affine=, dtype=)
    comfy.ops.manual_cast.LayerNorm(_, dtype=)
    comfy.ops.manual_cast.Linear(_, _, bias=, dtype=)
    comfy.ldm.modules.attention.attention_pytorch(_, _, _, _)
    comfy.ldm.modules.attention.attention_split(_, _, _, _)
    comfy.ldm.modules.attention.attention_sub_quad(_, _, _, _)
    comfy.ldm.modules.attention.SpatialTransformer().in_channels
    comfy.ldm.modules.diffusionmodules.openaimodel.ResBlock().out_channels
    comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel().input_blocks
    comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel().middle_block
    comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel().output_blocks
    comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel().model_channels
    comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel().out
    comfy.ldm.modules.diffusionmodules.openaimodel.Downsample().out_channels
    comfy.ldm.modules.diffusionmodules.openaimodel.Upsample().out_channels
    comfy.cli_args.args.use_split_cross_attention
    comfy.model_patcher.CoreModelPatcher  since 0.16.3
    comfy.model_patcher.ModelPatcher().cached_patcher_init  since 0.16.3

adapters of motion models
    comfy.ops.manual_cast.Conv2d(_, _, _, padding=, dtype=)
    comfy.latent_formats.LatentFormat.process_in(_)
    'uuid' in comfy.sampler_helpers
    'uuids' in comfy.samplers
    comfy.utils.common_upscale(_, _, _, _, _)

SparseCtrl
    comfy.cldm.cldm.ControlNet(image_size=, in_channels=, model_channels=, hint_channels=, num_res_blocks=, channel_mult=)
    comfy.cldm.cldm.ControlNet(_, _, _, _, _, dtype=, device=, operations=, num_heads=, use_spatial_transformer=, legacy=)
    comfy.cldm.cldm.ControlNet(_, _, _, _, _, transformer_depth=, transformer_depth_middle=, transformer_depth_output=)
    comfy.cldm.cldm.ControlNet(_, _, _, _, _, context_dim=, use_linear_in_transformer=)
    comfy.cldm.cldm.ControlNet().input_blocks
    comfy.cldm.cldm.ControlNet().zero_convs
    comfy.cldm.cldm.ControlNet().middle_block
    comfy.cldm.cldm.ControlNet().middle_block_out
    comfy.cldm.cldm.ControlNet().time_embed
    comfy.cldm.cldm.ControlNet().input_hint_block
    comfy.ops.manual_cast.Conv2d(_, _, _, stride=, padding=, dtype=)
    comfy.ldm.modules.diffusionmodules.util.timestep_embedding(_, _)
    comfy.utils.unet_to_diffusers(_)
    comfy.controlnet.ControlBase()
    comfy.controlnet.ControlBase.get_models()
    comfy.controlnet.ControlBase.pre_run(model, percent_to_timestep_function)
    comfy.controlnet.ControlBase.cleanup()
    comfy.controlnet.ControlBase.copy_to(_)
    comfy.controlnet.ControlBase.control_merge(_, _, output_dtype=)
    comfy.controlnet.ControlBase.set_cond_hint(_, _, _, _)
    comfy.controlnet.ControlBase.set_previous_controlnet(_)
    comfy.controlnet.ControlNet.get_control(x_noisy, t, cond, batched_number, transformer_options)
    comfy.controlnet.ControlBase().cond_hint
    comfy.controlnet.ControlBase().cond_hint_original
    comfy.controlnet.ControlBase().vae
    comfy.controlnet.ControlBase().timestep_range
    comfy.controlnet.ControlBase().previous_controlnet
    'crossattn_controlnet' in comfy.controlnet
    'c_crossattn' in comfy.controlnet
    'control' in comfy.samplers
    'control_apply_to_uncond' in comfy.samplers
    comfy.model_base.BaseModel().model_sampling
    comfy.model_base.BaseModel().latent_format
    comfy.model_sampling.ModelSamplingDiscrete.timestep(sigma)
    comfy.latent_formats.LatentFormat.process_in(_)
    comfy.model_management.loaded_models(only_currently_used=)
    comfy.model_management.load_models_gpu(_)
    comfy.utils.common_upscale(_, _, _, _, _)
    comfy.sd.VAE.encode(_)
    comfy.sd.VAE().latent_channels

motion models with an image input
    comfy.ops.manual_cast.Conv2d(_, _, _, padding=, bias=, dtype=)
    comfy.conds.CONDNoiseShape(_)
    comfy.conds.CONDNoiseShape.process_cond(batch_size=, area=)
    'model_conds' in comfy.samplers
    'input_block_patch' in comfy.ldm.modules.diffusionmodules.openaimodel
    'emb_patch' in comfy.ldm.modules.diffusionmodules.openaimodel
    'block' in comfy.ldm.modules.diffusionmodules.openaimodel
    'wrappers' in comfy.patcher_extension
    comfy.patcher_extension.WrappersMP.APPLY_MODEL
    comfy.model_base.BaseModel._apply_model(x, t, c_concat, c_crossattn, control, transformer_options)
    comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel().model_channels
    comfy.latent_formats.LatentFormat.process_in(_)
    comfy.utils.common_upscale(_, _, _, _, _)
    comfy.sd.VAE.encode(_)
    comfy.sd.VAE.spacial_compression_encode()
    comfy.sd.VAE().latent_channels
    comfy.model_management.throw_exception_if_processing_interrupted()

MotionLoRAs
    comfy.lora.load_lora(_, _)
    comfy.model_patcher.ModelPatcher.add_patches(_, _)

merging
    comfy.lora.calculate_weight(_, _, _)
    comfy_api.latest.ui.PreviewText(_)
    comfy.utils.ProgressBar(_)
    comfy.utils.ProgressBar.update(_)
    comfy.model_management.throw_exception_if_processing_interrupted()

domain adapters
    comfy.lora.load_lora(_, _, log_missing=)
    comfy.lora.model_lora_keys_unet(_, _)
    comfy.lora_convert.convert_lora(_)
    comfy.model_patcher.ModelPatcher.add_patches(_, _)
    comfy.weight_adapter.WeightAdapterBase
    comfy.weight_adapter.LoRAAdapter().loaded_keys
    comfy.weight_adapter.LoRAAdapter().name
    comfy.weight_adapter.LoRAAdapter().weights

sampling with motion models
    comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING
    comfy.patcher_extension.WrappersMP.CALC_COND_BATCH
    comfy.patcher_extension.WrappersMP.APPLY_MODEL
    comfy.patcher_extension.WrapperExecutor().class_obj
    comfy.patcher_extension.PatcherInjection(_, _)
    comfy.model_patcher.ModelPatcher.add_wrapper_with_key(_, _, _)
    comfy.model_patcher.ModelPatcher.remove_wrappers_with_key(_, _)
    comfy.model_patcher.ModelPatcher.set_additional_models(_, _)
    comfy.model_patcher.ModelPatcher.get_additional_models_with_key(_)
    comfy.model_patcher.ModelPatcher.remove_additional_models(_)
    comfy.model_patcher.ModelPatcher.set_injections(_, _)
    comfy.model_patcher.ModelPatcher.remove_injections(_)
    comfy.model_patcher.ModelPatcher.eject_model()
    comfy.model_patcher.ModelPatcher.set_model_patch(_, _)
    comfy.model_patcher.ModelPatcher.remove_attachments(_)
    comfy.model_patcher.ModelPatcher.add_object_patch(_, _)
    comfy.model_patcher.ModelPatcher.get_model_object(_)
    comfy.model_patcher.ModelPatcher().model_options
    comfy.model_patcher.ModelPatcher().load_device
    comfy.samplers.CFGGuider().model_patcher
    comfy.samplers.CFGGuider().model_options
    comfy.samplers.CFGGuider().conds
    comfy.samplers.CFGGuider.outer_sample(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed)
    comfy.samplers._calc_cond_batch(model, conds, x_in, timestep, model_options)
    comfy.sampler_helpers._prepare_sampling(model, noise_shape, conds)
    comfy.model_base.BaseModel._apply_model(x, t, c_concat, c_crossattn, control, transformer_options)
    'forward_timestep_embed_patch' in comfy.ldm.modules.diffusionmodules.openaimodel
    'patches' in comfy.model_patcher
    'transformer_options' in comfy.model_patcher
    'cond_or_uncond' in comfy.samplers
    'sigmas' in comfy.samplers
    comfy.model_base.BaseModel().diffusion_model
    comfy.model_base.BaseModel().latent_format
    comfy.latent_formats.LatentFormat().scale_factor
    comfy.model_management.get_torch_device()

context options
    comfy.model_management.throw_exception_if_processing_interrupted()
    comfy.conds.CONDRegular._copy_with(_)
    comfy.conds.CONDRegular().cond
    comfy.conds.CONDConstant._copy_with(_)
    'control' in comfy.samplers
    'mask' in comfy.samplers
    'model_conds' in comfy.samplers
    'cross_attn' in comfy.model_base
    'num_video_frames' in comfy.model_base
    'pooled_output' in comfy.sd
    comfy.model_base.BaseModel.memory_required(_)
    comfy.model_base.BaseModel.get_dtype()
    comfy.model_base.BaseModel().manual_cast_dtype
    comfy.model_management.get_free_memory(_)

skip connections in RAM
    'input_block_patch' in comfy.ldm.modules.diffusionmodules.openaimodel
    'input_block_patch_after_skip' in comfy.ldm.modules.diffusionmodules.openaimodel
    'output_block_patch' in comfy.ldm.modules.diffusionmodules.openaimodel

context windows in one batch
    comfy.model_base.BaseModel.memory_required(_)
    comfy.model_management.get_free_memory(_)
    comfy.model_patcher.ModelPatcher.get_free_memory(_)  since 0.16.3

ContextRef
    comfy.model_base.SDXL
    comfy.ldm.modules.attention.SpatialTransformer().transformer_blocks
    comfy.ldm.modules.attention.BasicTransformerBlock().disable_self_attn
    comfy.ldm.modules.attention.BasicTransformerBlock().norm1
    comfy.ldm.modules.attention.optimized_attention(_, _, _, _, attn_precision=, transformer_options=)
    'patches_replace' in comfy.ldm.modules.attention
    'attn1' in comfy.ldm.modules.attention
    'attn1_patch' in comfy.ldm.modules.attention
    'block' in comfy.ldm.modules.attention
    'block_index' in comfy.ldm.modules.attention
    'n_heads' in comfy.ldm.modules.attention
    'attn_precision' in comfy.ldm.modules.attention
    'activations_shape' in comfy.ldm.modules.attention
    'input_block_patch' in comfy.ldm.modules.diffusionmodules.openaimodel
    'output_block_patch' in comfy.ldm.modules.diffusionmodules.openaimodel
    'patches' in comfy.ldm.modules.attention
    'uuid' in comfy.samplers
    'uuids' in comfy.samplers
    'negative' in comfy.samplers

MODELs of TorchCompileModel
    comfy.patcher_extension.WrappersMP.APPLY_MODEL
    comfy_api.torch_helpers.torch_compile.COMPILE_KEY
    comfy_api.torch_helpers.torch_compile.TORCH_COMPILE_KWARGS
    comfy_api.torch_helpers.torch_compile.apply_torch_compile_factory(_)

ComfyUI's own Context Windows
    'context_handler' in comfy.samplers
    'context_window' in comfy.context_windows
    comfy.context_windows.IndexListContextWindow().index_list
    comfy.context_windows.IndexListContextHandler().context_length
    comfy.context_windows.IndexListContextHandler().dim
    comfy.context_windows.IndexListContextHandler().causal_window_fix  since 0.24.0
    'causal_anchor_index' in comfy.context_windows  since 0.24.0

MODELs of MultiGPU CFG Split
    comfy.patcher_extension.CallbacksMP.ON_MATCH_MULTIGPU_CLONES  since 0.24.0
    comfy.model_patcher.ModelPatcher.add_callback_with_key(_, _, _)
    comfy.model_patcher.ModelPatcher.remove_callbacks_with_key(_, _)
    comfy.model_patcher.ModelPatcher.deepclone_multigpu(new_load_device=)  since 0.24.0
    comfy.model_patcher.ModelPatcher.clone(model_override=)  since 0.16.3
    comfy.model_patcher.ModelPatcher.get_clone_model_override()  since 0.16.3
    comfy.model_patcher.ModelPatcher().clone_base_uuid  since 0.24.0
    comfy.controlnet.ControlBase.deepclone_multigpu(load_device, autoregister=)  since 0.24.0

ControlNets in context windows
    comfy.controlnet.ControlBase().cond_hint_original
    comfy.controlnet.ControlBase().cond_hint
    comfy.controlnet.ControlBase().extra_concat
    comfy.controlnet.ControlBase().extra_concat_orig
    comfy.controlnet.ControlBase().previous_controlnet
    comfy.controlnet.ControlBase().timestep_range
    comfy.controlnet.T2IAdapter().control_input
    comfy.controlnet.ControlBase().multigpu_clones  since 0.24.0

custom CFG and its extras
    'sampler_cfg_function' in comfy.samplers
    'sampler_pre_cfg_function' in comfy.samplers
    'sampler_post_cfg_function' in comfy.samplers
    'disable_cfg1_optimization' in comfy.samplers
    'cond' in comfy.samplers
    'uncond' in comfy.samplers
    'conds' in comfy.samplers
    'cond_scale' in comfy.samplers
    'input' in comfy.samplers
    'sigma' in comfy.samplers
    'denoised' in comfy.samplers
    'cond_denoised' in comfy.samplers
    'model' in comfy.samplers
    'model_options' in comfy.samplers
    comfy.samplers.calc_cond_batch(_, _, _, _, _)
    comfy.model_patcher.set_model_options_patch_replace(_, _, _, _, _)
    'attn1' in comfy.ldm.modules.attention
    'middle' in comfy.ldm.modules.diffusionmodules.openaimodel
    comfy.model_patcher.ModelPatcher.set_model_sampler_cfg_function(_)
    comfy.model_patcher.ModelPatcher.set_model_sampler_post_cfg_function(_)

UniCtrl and Text2Video-Zero
    comfy.patcher_extension.WrappersMP.APPLY_MODEL
    comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE
    comfy.samplers.KSAMPLER.sample(model_wrap, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar)
    comfy.samplers.KSAMPLER.max_denoise(_, _)
    comfy.model_sampling.EPS.noise_scaling(_, _, _, _)
    comfy.model_sampling.ModelSamplingDiscrete.timestep(_)
    comfy.model_sampling.ModelSamplingDiscrete.sigma(_)
    comfy.model_patcher.ModelPatcher.add_wrapper_with_key(_, _, _)
    comfy.model_patcher.ModelPatcher.remove_wrappers_with_key(_, _)
    'attn1_patch' in comfy.ldm.modules.attention
    'patches' in comfy.ldm.modules.attention
    'block' in comfy.ldm.modules.attention
    'block_index' in comfy.ldm.modules.attention
    'wrappers' in comfy.patcher_extension
    'uuids' in comfy.samplers
    'uuid' in comfy.samplers
    'model_options' in comfy.samplers

Follow Path
    comfy.sd.CLIP.tokenize(_)
    comfy.model_sampling.ModelSamplingDiscrete.percent_to_sigma(_)
    'attn1_patch' in comfy.ldm.modules.attention
    'attn2_patch' in comfy.ldm.modules.attention
    'patches' in comfy.ldm.modules.attention
    'optimized_attention_override' in comfy.ldm.modules.attention
    'transformer_options' in comfy.ldm.modules.attention
    'activations_shape' in comfy.ldm.modules.attention
    'original_shape' in comfy.ldm.modules.diffusionmodules.openaimodel
    'cond_or_uncond' in comfy.samplers

Motion Clone
    comfy.patcher_extension.WrappersMP.APPLY_MODEL
    comfy.patcher_extension.WrapperExecutor().class_obj
    comfy.model_base.BaseModel._apply_model(x, t, c_concat, c_crossattn, control, transformer_options)
    comfy.model_base.BaseModel().diffusion_model
    comfy.model_sampling.EPS.noise_scaling(sigma, noise, latent_image)
    comfy.model_sampling.ModelSamplingDiscrete.percent_to_sigma(_)
    comfy.latent_formats.LatentFormat.process_in(_)
    comfy.ldm.modules.attention.attention_pytorch
    comfy.ldm.modules.attention.SpatialTransformer
    comfy.ldm.modules.attention.GEGLU
    comfy.ldm.modules.diffusionmodules.openaimodel.ResBlock
    comfy.model_management.throw_exception_if_processing_interrupted()
    'optimized_attention_override' in comfy.ldm.modules.attention
    'wrappers' in comfy.patcher_extension
    'model_conds' in comfy.samplers
    'control' in comfy.samplers
    'area' in comfy.samplers
    'mask' in comfy.samplers
    'timestep_start' in comfy.samplers
    'timestep_end' in comfy.samplers

Ancestral Options
    comfy.samplers.KSAMPLER().sampler_function
    comfy.samplers.KSAMPLER().extra_options
    comfy.k_diffusion.sampling.sample_euler_ancestral(_, _, _, noise_sampler=)

beta schedules
    comfy.model_base.model_sampling(_, _)
    comfy.model_base.ModelType.EPS
    comfy.model_base.ModelType.V_PREDICTION
    comfy.model_base.BaseModel().model_type
    comfy.model_sampling.ModelSamplingDiscrete(_)
    comfy.model_sampling.ModelSamplingDiscrete.set_sigmas(sigmas)
    comfy.model_sampling.ModelSamplingDiscrete._register_schedule(given_betas, beta_schedule, timesteps, zsnr=)
    comfy.model_sampling.ModelSamplingDiscrete._register_schedule(linear_start=, linear_end=)
    comfy.model_sampling.ModelSamplingDiscrete.timestep(sigma)
    comfy.model_sampling.ModelSamplingDiscrete.sigma(_)
    comfy.model_sampling.ModelSamplingDiscrete.percent_to_sigma(_)
    comfy.model_sampling.ModelSamplingDiscrete.sigma_max
    comfy.ldm.modules.diffusionmodules.util.make_beta_schedule(_, _, linear_start=, linear_end=)

LCM schedules
    comfy_extras.nodes_model_advanced.LCM()
    comfy_extras.nodes_model_advanced.ModelSamplingDiscreteDistilled(_)
    comfy_extras.nodes_model_advanced.ModelSamplingDiscreteDistilled.original_timesteps

Sigma Schedule To Sigmas
    comfy.samplers.calculate_sigmas(_, _, _)
    comfy.samplers.SCHEDULER_NAMES

pictures of context windows
    comfy.samplers.KSampler(_, _, _, _, _, _)
    comfy.samplers.KSampler().sigmas
    comfy.samplers.KSampler.SAMPLERS
    comfy.samplers.KSampler.SCHEDULERS

masks in multivals
    comfy.utils.common_upscale(_, _, _, _, _)

prompt scheduling
    comfy.sd.CLIP.tokenize(_)
    comfy.sd.CLIP.encode_from_tokens(_, return_pooled=)
    comfy.sd.CLIP.encode_from_tokens_scheduled(_, show_pbar=)
    comfy.sd.CLIP.add_hooks_to_dict(_)
    comfy.sd.CLIP().use_clip_schedule
    comfy.sd.CLIP().patcher
    comfy.model_patcher.ModelPatcher().forced_hooks
    'pooled_output' in comfy.sd
    'clip_start_percent' in comfy.sd
    'clip_end_percent' in comfy.sd
    comfy.utils.ProgressBar(_)
    comfy.utils.ProgressBar.update(_)
    comfy.model_management.throw_exception_if_processing_interrupted()

training
    'forward_timestep_embed_patch' in comfy.ldm.modules.diffusionmodules.openaimodel
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
    comfy.model_management.should_use_bf16(_)
    comfy.model_management.InterruptProcessingException
    comfy.model_management.OOM_EXCEPTION
    comfy.model_management.interrupt_current_processing(_)
    comfy.model_management.throw_exception_if_processing_interrupted()
    comfy.lora.calculate_weight(_, _, _)
    comfy.sampler_helpers.convert_cond(_)
    comfy.samplers.encode_model_conds(_, _, _, _, _, latent_image=)
    'model_conds' in comfy.samplers
    'cross_attn' in comfy.sampler_helpers
    comfy.conds.CONDRegular.process_cond(batch_size=, area=)
    comfy.conds.CONDRegular.concat(_)
    comfy.model_base.BaseModel.apply_model(_, _, transformer_options=)
    comfy.model_base.BaseModel.extra_conds()
    comfy.model_base.BaseModel.process_latent_in(_)
    comfy.model_base.BaseModel().model_sampling
    comfy.model_sampling.V_PREDICTION
    comfy.model_sampling.EDM
    comfy.model_base.BaseModel().manual_cast_dtype
    comfy.model_base.BaseModel().latent_format
    comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel().dtype
    comfy.ldm.modules.attention.CrossAttention
    comfy.ldm.modules.attention.GEGLU
    'optimized_attention_override' in comfy.ldm.modules.attention
    comfy.utils.ProgressBar(_, node_id=)
    comfy.utils.ProgressBar.update_absolute(_, _)
    comfy.model_patcher.ModelPatcher.is_dynamic()  since 0.16.3
    comfy.model_patcher.ModelPatcher.clone(disable_dynamic=)  since 0.16.3
    'area' in comfy.samplers
    'mask' in comfy.samplers
    'strength' in comfy.samplers
    'start_percent' in comfy.samplers
    'end_percent' in comfy.samplers
    'control' in comfy.samplers
    'gligen' in comfy.samplers
    'hooks' in comfy.samplers

lines of text on nodes
    comfy_execution.utils.get_executing_context()
    comfy_execution.utils.ExecutionContext().node_id
    server.PromptServer.send_progress_text(_, _)
    server.PromptServer().instance
    server.PromptServer().loop
    server.PromptServer().prompt_queue
    execution.PromptQueue.get_current_queue_volatile()

training by command
    comfy_execution.graph_utils.ExecutionBlocker(_)
    comfy.cli_args.args.cpu
    folder_paths.get_output_directory()
    execution.CacheType.CLASSIC
    execution.PromptExecutor(_, _, _)
    execution.PromptExecutor.execute(_, _, _, _)
    execution.PromptExecutor().status_messages
    execution.validate_prompt(_, _, _)
    nodes.NODE_CLASS_MAPPINGS
    nodes.interrupt_processing()
    nodes.load_custom_node(_)

moving previews of clips
    comfy_execution.progress.get_progress_state()
    comfy_execution.progress.ProgressRegistry().handlers
    comfy_execution.progress.ProgressRegistry.ensure_entry(_)
    comfy_execution.progress.ProgressRegistry.update_progress(_, _, _, image)
    comfy_execution.utils.get_executing_context()
    comfy_execution.utils.ExecutionContext().node_id
    latent_preview.get_previewer(_, _)
    latent_preview.LatentPreviewer.decode_latent_to_preview(_)

previews of training
    comfy.latent_formats.SD15().latent_rgb_factors
    comfy.latent_formats.SD15().latent_rgb_factors_bias

clips of a folder of videos
    folder_paths.get_input_directory()
    folder_paths.get_user_directory()
    comfy.sd.VAE.encode(_)
    comfy.sd.VAE().patcher
    comfy.sd.VAE().latent_channels
    comfy.sd.VAE().latent_dim
    comfy.sd.CLIP.tokenize(_)
    comfy.sd.CLIP.encode_from_tokens(_, return_pooled=)
    comfy.sd.CLIP.add_hooks_to_dict(_)
    comfy.sd.CLIP().patcher
    comfy.sd.CLIP().layer_idx
    comfy.sd.CLIP().use_clip_schedule
    comfy.model_patcher.ModelPatcher.get_key_patches()
    comfy.model_patcher.ModelPatcher().forced_hooks
    comfy.utils.ProgressBar(_)
    comfy.utils.ProgressBar.update(_)
    comfy.model_management.throw_exception_if_processing_interrupted()
    comfy_api.latest.ui.PreviewText(_)

Show Settings
    comfy_api.latest.io.MultiType.Input(_, types=, tooltip=)
    comfy_api.latest.ui.PreviewImage(_)
    comfy.model_sampling.ModelSamplingDiscrete.percent_to_sigma(_)
    comfy.model_sampling.ModelSamplingDiscrete.sigma_min
    comfy.model_sampling.ModelSamplingDiscrete.sigma_max

Animation Metrics
    comfy_execution.graph_utils.ExecutionBlocker(_)
    comfy.utils.ProgressBar(_)
    comfy.utils.ProgressBar.update(_)

the CLIP measures of Animation Metrics
    comfy.clip_vision.ClipVisionModel.encode_image(_)
    comfy.clip_vision.ClipVisionModel().model
    'image_embeds' in comfy.clip_vision
    comfy.clip_model.CLIPVisionModelProjection().visual_projection
    comfy.clip_model.CLIPTextModel
    comfy.sd.CLIP.encode_from_tokens(_, return_pooled=)
    comfy.sd.CLIP().cond_stage_model
    comfy.sdxl_clip.SDXLClipModel().clip_g
    comfy.sd1_clip.SD1ClipModel().clip
    comfy.sd1_clip.SDClipModel().return_projected_pooled
    comfy.sd1_clip.SDClipModel().transformer

AnimateDiff Combine
    folder_paths.get_output_directory()
    folder_paths.get_temp_directory()
    folder_paths.get_save_image_path(_, _, _, _)
    comfy.cli_args.args.disable_metadata
    comfy.utils.ProgressBar(_)
    comfy.utils.ProgressBar.update_absolute(_)
    comfy.model_management.throw_exception_if_processing_interrupted()

saving motion models and LoRAs
    folder_paths.get_save_image_path(_, _, _, _)

Load Checkpoint with Noise Schedule
    nodes.CheckpointLoaderSimple.load_checkpoint(_)
    comfy.model_patcher.ModelPatcher.add_object_patch(_, _)
    comfy.model_patcher.ModelPatcher.get_model_object(_)
    comfy.latent_formats.LatentFormat().scale_factor

Empty Latent Image (Big Batch)
    nodes.EmptyLatentImage.generate(_, _, _)
    'samples' in nodes

deprecated LoRA hooks
    comfy.hooks.HookGroup()
    comfy.hooks.HookGroup.combine_all_hooks(_)
    comfy.hooks.HookKeyframe(strength, start_percent, guarantee_steps)
    comfy.hooks.HookKeyframeGroup()
    comfy.hooks.HookKeyframeGroup.add(_)
    comfy.hooks.HookKeyframeGroup.clone()
    comfy.hooks.create_hook_lora(lora, strength_model, strength_clip)
    comfy.hooks.combine_with_new_conds(_, _)
    comfy.hooks.set_conds_props(_, strength=, set_cond_area=, mask=, hooks=, timesteps_range=)
    comfy.hooks.set_conds_props_and_combine(_, _, strength=, set_cond_area=, mask=, hooks=, timesteps_range=)
    comfy.hooks.set_default_conds_and_combine(_, _, hooks=)
    comfy.hooks.set_hooks_for_conditioning(_, _)
    comfy_extras.nodes_hooks.ConditioningTimestepsRange.create_range(start_percent, end_percent)
    comfy_extras.nodes_hooks.CreateHookKeyframesFromFloats.create_hook_keyframes(_, start_percent=, end_percent=)
    comfy_extras.nodes_hooks.CreateHookKeyframesFromFloats.create_hook_keyframes(_, _, _, print_keyframes=, prev_hook_kf=)
    comfy_extras.nodes_hooks.CreateHookKeyframesInterpolated.create_hook_keyframes(strength_start, strength_end, _, _, _, _)
    comfy_extras.nodes_hooks.CreateHookKeyframesInterpolated.create_hook_keyframes(_, _, interpolation, start_percent, _, _)
    comfy_extras.nodes_hooks.CreateHookKeyframesInterpolated.create_hook_keyframes(_, _, _, _, end_percent, keyframes_count)
    comfy_extras.nodes_hooks.CreateHookKeyframesInterpolated.create_hook_keyframes(_, _, _, _, _, _, print_keyframes=, prev_hook_kf=)
    comfy_extras.nodes_hooks.CreateHookModelAsLora.create_hook(ckpt_name, strength_model, strength_clip)
    comfy_extras.nodes_hooks.SetClipHooks.apply_hooks(_, schedule_clip=, apply_to_conds=, hooks=)
    comfy_extras.nodes_hooks.SetHookKeyframes.set_hook_keyframes(_, _)

image injection
    comfy.latent_formats.LatentFormat.process_in(_)
    comfy.latent_formats.LatentFormat.process_out(_)
    comfy.model_sampling.EPS.noise_scaling(sigma, noise, latent_image)
    comfy.model_sampling.ModelSamplingDiscrete.timestep(sigma)
    comfy.sd.VAE.decode(_)
    comfy.sd.VAE.encode(_)
    comfy.sd.VAE().downscale_ratio
    comfy.sd.VAE().latent_channels
    comfy.sd.VAE().latent_dim
    comfy.model_management.throw_exception_if_processing_interrupted()

Scale Ref Image and VAE Encode
    comfy.sd.VAE.encode(_)
    comfy.utils.common_upscale(_, _, _, _, _)

telling whether another pack has the same nodes
    nodes.NODE_CLASS_MAPPINGS

working together with other packs
    comfy.hooks
    comfy.model_patcher.ModelPatcher.set_attachments(_, _)
    comfy.model_patcher.ModelPatcher.remove_attachments(_)
"""


class Row(NamedTuple):
    what: str
    needed_for: str
    since: str

    @property
    def optional(self) -> bool:
        """Whether ``host/`` can do without it."""
        return self.since != OLDEST


def rows() -> list[Row]:
    """The rows of the table. What several capabilities need has a row for each."""
    found, needed_for = [], ""
    for line in CONTRACT.splitlines():
        if line.startswith(" "):
            what, _, since = line.strip().partition("  since ")
            found.append(Row(what, needed_for, since or OLDEST))
        elif line:
            needed_for = line
    return found
