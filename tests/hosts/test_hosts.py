"""The pack in every supported ComfyUI release: it boots, serves its nodes, and gives the same clip."""

import re

import pytest
import safetensors.torch
from animatediff_dev_hosts import ROOT, versions
from animatediff_dev_reference import LATENTS, prompt

OLDEST, NEWEST = "0.3.75", "0.30.0"
# Plain v2 and v1; keyframes with multivals; windows with shuffled noise from the sample settings.
PROMPTS = ("gen2_v2", "gen2_v1", "keyframes", "freenoise")


@pytest.fixture(scope="session")
def latents() -> dict:
    """What each release gave, by prompt."""
    return {}


@pytest.mark.compares("ComfyUI releases", versions())
def test_boots_and_animates(any_host, new_server, weights, latents, compared):
    with new_server(any_host, models=[weights]) as server:
        assert server.get("/system_stats")["system"]["comfyui_version"] == any_host.version
        documented = set(re.findall(r"\| `(\w+)` \|", (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")))
        assert documented - server.object_info().keys() == set()
        for name in PROMPTS:
            [path] = [path for path in server.outputs(server.queue(prompt(name))) if path.suffix == ".latent"]
            latents[any_host.version, name] = safetensors.torch.load_file(path)["latent_tensor"]
    reference = safetensors.torch.load_file(LATENTS)
    compared(any_host.version)
    for name in PROMPTS:
        latent = latents[any_host.version, name]
        assert (latent - reference[name]).norm() / reference[name].norm() < 1e-3


@pytest.mark.skipif(len(versions()) == 1, reason="compares two releases, and COMFYUI_PATH names the only one")
@pytest.mark.parametrize("name", PROMPTS)
def test_oldest_and_newest_release_give_the_same_bits(latents, name):
    assert latents[OLDEST, name].equal(latents[NEWEST, name])
