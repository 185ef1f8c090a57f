"""Prompts one after another in a real server: what one leaves behind must not reach the next."""

import copy
import itertools
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from animatediff_dev_reference import prompt

RAISING_PACK = Path(__file__).parent / "raising_pack"
PACK = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(new_server, host, weights):
    with new_server(host, models=[weights], packs=[PACK, RAISING_PACK]) as server:
        yield server


@pytest.fixture(scope="module")
def animated() -> dict:
    """Prompt A: v2 motion model."""
    return prompt("gen2_v2")


@pytest.fixture(scope="module")
def plain() -> dict:
    """Prompt B: the same checkpoint without motion."""
    return prompt("no_motion_model")


# The host counts any denoise above 0.9999 as 1: the server's cache sees another prompt, the sampler the same.
denoise = (1.0 - i * 1e-6 for i in itertools.count(1))


def sampled(server, prompt: dict) -> torch.Tensor:
    """The latents of a prompt, sampled anew."""
    prompt = copy.deepcopy(prompt)
    prompt["ks"]["inputs"]["denoise"] = next(denoise)
    [path] = [path for path in server.outputs(server.queue(prompt)) if path.suffix == ".latent"]
    return safetensors.torch.load_file(path)["latent_tensor"]


@pytest.fixture(scope="module")
def plain_in_a_fresh_server(new_server, host, weights, plain):
    with new_server(host, models=[weights]) as fresh:
        return sampled(fresh, plain)


@pytest.fixture(scope="module")
def animated_first(server, animated):
    return sampled(server, animated)


@pytest.fixture
def both_as_before(server, animated, plain, animated_first, plain_in_a_fresh_server):
    """Call at the end of a test: neither prompt gives anything else than in a server that saw nothing before."""

    def check():
        assert torch.equal(sampled(server, plain), plain_in_a_fresh_server)
        assert torch.equal(sampled(server, animated), animated_first)

    return check


def test_animated_plain_animated(both_as_before):
    both_as_before()


def test_after_an_interrupted_run(server, animated, both_as_before):
    long = copy.deepcopy(animated)
    long["ks"]["inputs"] |= {"steps": 30, "seed": 99}
    prompt_id = server.submit(long)
    deadline = time.monotonic() + 300
    while " 2/30 [" not in server.log():
        assert time.monotonic() < deadline, "the long run never got to its second step"
        time.sleep(0.1)
    server.interrupt()
    with pytest.raises(RuntimeError, match="interrupted"):
        server.wait(prompt_id)
    both_as_before()


def test_after_a_run_in_which_the_unet_raised(server, animated, both_as_before):
    broken = copy.deepcopy(animated)
    broken["raise"] = {"class_type": "RaiseInUNet", "inputs": {"model": ["use", 0]}}
    broken["ks"]["inputs"]["model"] = ["raise", 0]
    with pytest.raises(RuntimeError, match="the UNet raised"):
        server.queue(broken)
    both_as_before()


def test_too_long_a_clip_is_refused_in_words(server, animated):
    prompt = copy.deepcopy(animated)
    prompt["lat"]["inputs"]["batch_size"] = 33
    with pytest.raises(RuntimeError, match=r"33 frames.*'random_v2' handles at most 32.*Context Options"):
        server.queue(prompt)
