"""The incumbent's latents for API prompts on random weights, through a real server.

Relative error is the norm of the difference over the norm of the reference latent.
"""

import pytest
import safetensors.torch
import torch
from animatediff_dev_reference import LATENTS, prompt, prompt_names

NAMES = prompt_names()
LIMIT = 1e-3


@pytest.fixture(scope="module")
def reference_latents() -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(LATENTS)


@pytest.mark.compares("reference latents", NAMES)
@pytest.mark.parametrize("name", NAMES)
def test_latents_equal_the_incumbents(name, server, reference_latents, compared):
    latent_file = next(path for path in server.outputs(server.queue(prompt(name))) if path.suffix == ".latent")
    latent = safetensors.torch.load_file(latent_file)["latent_tensor"]
    reference = reference_latents[name]
    error = ((latent - reference).norm() / reference.norm()).item()
    compared(name)
    print(f"\n{name}: relative error {error:.1e}")
    assert error <= LIMIT
