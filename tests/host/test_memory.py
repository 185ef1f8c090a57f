"""What sampling takes beside the weights, against what ComfyUI reserves for it: counted, at the networks' real size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from animatediff_dev_pack import import_file

counted_memory = import_file(
    "animatediff_dev_counted_memory", Path(__file__).resolve().parents[2] / "dev" / "counted_memory.py"
)
CONDS = 2


def test_tensors_count_from_when_they_are_made_until_they_are_let_go_of():
    given = torch.empty(100, device="meta")
    with counted_memory.Allocations([given]) as counted:
        one = given * 2  # 400 bytes
        view = one[:50]
        two = torch.cat([one, one])  # 800
        assert counted.peak == 1200
        del one
        given.add_(1)
        del view, two
        counted.marked = True
        three = given + 1
        assert len(three) == 100
    assert (counted.peak, counted.peak_marked) == (1200, 400)


@pytest.mark.parametrize(("family", "frames", "size"), [("SD15", 16, 64), ("SD15", 32, 40), ("SDXL", 8, 64)])
def test_what_the_host_reserves_for_its_unet_is_enough_for_temporal_attention(pack, family, frames, size):
    """So the batches that ComfyUI makes of conds, and we of context windows, fit where the plain UNet's fit.

    The host's numbers are those of the UNet alone; temporal layers run where it does not, and in parts.
    """
    animated = counted_memory.Animated(pack, family)
    reserved = counted_memory.estimate(family, CONDS * frames, size, size)
    plain = counted_memory.Animated(pack, family, motion=False).count(frames, CONDS, size, size)
    assert plain.peak < reserved
    assert plain.peak_marked == 0
    motion = animated.count(frames, CONDS, size, size)
    assert 0 < motion.peak_marked < motion.peak == plain.peak
    everything = animated.count(frames, CONDS, size, size, animated.all_inputs(frames, size, size), joint=True)
    assert plain.peak < everything.peak < reserved


def test_several_windows_take_as_much_as_the_host_reckons_for_as_many_pictures(pack):
    animated = counted_memory.Animated(pack, "SD15")
    one, three = (animated.count(8, windows * CONDS, 32, 32).peak for windows in (1, 3))
    assert three <= 3 * one
    assert three < counted_memory.estimate("SD15", 3 * CONDS * 8, 32, 32)


@pytest.mark.parametrize("clips", [1, 8])
@pytest.mark.parametrize("side", [8, 96])
def test_a_motion_module_takes_a_copy_of_its_input_and_one_part(pack, clips, side):
    """Of 16 times as many elements as are computed in a part: hidden states, normed, the feed-forward network's 8 and 4."""
    temporal, call = pack.submodule("motion_models.network.temporal"), pack.submodule("motion_models.network.call")
    frames, channels = 16, 320
    positions = clips * side * side
    part = temporal.positions_at_once(positions, frames, channels, torch.device("meta")) * frames * channels
    module = counted_memory.Animated(pack, "SD15", motion=False).motion.down_blocks[0].motion_modules[0]
    x = torch.empty(clips * frames, channels, side, side, **counted_memory.HALF)
    with torch.no_grad(), counted_memory.Allocations([x, *module.state_dict().values()]) as counted:
        module(x, frames, call.MotionInputs())
    elements = counted.peak / 2
    most = max(x.numel() + 16 * part, 2 * x.numel())
    assert 0.9 * most <= elements <= most
