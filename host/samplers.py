"""Which of the host's samplers draw their ancestral noise from its default noise sampler, if they are given no other."""

from collections.abc import Callable

MODULE = "comfy.k_diffusion.sampling"
# The rest add no noise, or that of a Brownian tree, all of which is known in advance.
WITH_DEFAULT_NOISE = frozenset(
    {
        "sample_ddpm",
        "sample_dpm_2_ancestral",
        "sample_dpm_2_ancestral_RF",
        "sample_dpmpp_2s_ancestral",
        "sample_dpmpp_2s_ancestral_RF",
        "sample_dpmpp_2s_ancestral_cfg_pp",
        "sample_er_sde",
        "sample_euler_ancestral",
        "sample_euler_ancestral_RF",
        "sample_euler_ancestral_cfg_pp",
        "sample_exp_heun_2_x0_sde",
        "sample_lcm",
        "sample_res_multistep",
        "sample_res_multistep_ancestral",
        "sample_res_multistep_ancestral_cfg_pp",
        "sample_res_multistep_cfg_pp",
        "sample_sa_solver",
        "sample_sa_solver_pece",
        "sample_seeds_2",
        "sample_seeds_3",
    }
)


def draws_default_noise(sampler_function: Callable) -> bool:
    """Whether a sampler function is one that draws from ``default_noise_sampler`` and takes a ``noise_sampler``."""
    name, module = (getattr(sampler_function, name, None) for name in ("__name__", "__module__"))
    return module == MODULE and name in WITH_DEFAULT_NOISE
