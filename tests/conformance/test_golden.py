"""The incumbent's latents for API prompts on random weights, through a real server.

Relative error is the norm of the difference over the norm of the golden latent.
"""

import json

import pytest
import safetensors.torch
import torch
from animatediff_dev_hosts import SHARED

GOLDEN = SHARED / "golden"
LIMIT = 1e-3


@pytest.fixture(scope="module")
def golden(shared) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(shared / "golden" / "latents.safetensors")


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.json")) or ["golden folder not found"])
def test_latents_equal_the_incumbents(name, server, golden, record_property):
    prompt = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    latent_file = next(path for path in server.outputs(server.queue(prompt)) if path.suffix == ".latent")
    latent = safetensors.torch.load_file(latent_file)["latent_tensor"]
    error = ((latent - golden[name]).norm() / golden[name].norm()).item()
    print(f"\n{name}: relative error {error:.1e}")
    assert error <= LIMIT
