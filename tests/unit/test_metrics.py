"""Measures of an animation, on clips whose motion, jumps and noise are known."""

import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import grid_sample, interpolate

STILL_VIDEO = "A still picture has the best smoothness"


@pytest.fixture(scope="session")
def animation(pack):
    return pack.submodule("metrics.animation")


@pytest.fixture(scope="session")
def frame_measures(pack):
    return pack.submodule("metrics.frames")


@pytest.fixture(scope="session")
def static(pack):
    """`static(frames, length, overlap)`: the windows of Animation Metrics."""
    windows = pack.submodule("sampling.windows.schedules")
    return lambda frames, length, overlap=0: windows.windows(
        frames, windows.WindowOptions(windows.STANDARD_STATIC, length, overlap)
    )


def texture(size: int, seed: int) -> torch.Tensor:
    """Smooth coloured noise ``(1, 3, size, size)`` in 0..1."""
    coarse = torch.rand(1, 3, size // 6, size // 6, generator=torch.Generator().manual_seed(seed))
    return interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


def moving_disc(velocity: tuple[float, float], frames: int = 8, size: int = 128, radius: int = 24) -> torch.Tensor:
    """A textured disc that moves over a still, plain ground: ``(frames, size, size, 3)``."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    pattern, clip = texture(size, seed=1), []
    for t in range(frames):
        dx, dy = velocity[0] * t, velocity[1] * t
        inside = (radius - torch.hypot(x - 45 - dx, y - 55 - dy) + 0.5).clamp(0, 1)
        grid = torch.stack((x - dx, y - dy), -1)[None] * 2 / (size - 1) - 1
        moved = grid_sample(pattern, grid, align_corners=True, padding_mode="reflection")[0]
        clip.append((moved * inside + 0.2 * (1 - inside)).permute(1, 2, 0))
    return torch.stack(clip)


def panned(frames: int, step: int, size: int = 96) -> torch.Tensor:
    """A picture wider than the frame, moved along by ``step`` pixels a frame."""
    wide = texture(size + frames * step, seed=2)[0].permute(1, 2, 0)[:size]
    return torch.stack([wide[:, t * step : t * step + size] for t in range(frames)])


def noise(frames: int, size: int = 96) -> torch.Tensor:
    return torch.rand(frames, size, size, 3, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("velocity", [(2.0, 0.0), (0.0, -1.0), (3.0, 2.0), (0.5, 0.0), (6.0, 0.0), (0.0, 0.0)])
def test_dynamic_degree_is_the_speed_of_what_moves(animation, velocity):
    speed = (velocity[0] ** 2 + velocity[1] ** 2) ** 0.5
    measured = animation.measure(moving_disc(velocity)).dynamic_degree.value
    assert measured == pytest.approx(speed, rel=0.15, abs=0.01)


def test_flow_points_where_the_picture_goes(pack):
    clip = moving_disc((3.0, -2.0))
    flow = pack.submodule("metrics.flow").optical_flow(clip[0], clip[1])
    assert flow[:, 50:60, 40:50].mean((1, 2)).tolist() == pytest.approx([3.0, -2.0], abs=0.2)


@pytest.mark.parametrize("size", [(8, 8), (11, 40), (64, 64), (65, 90)])
def test_flow_of_pictures_of_any_size(pack, size):
    clip = noise(2)[:, : size[0], : size[1]]
    assert pack.submodule("metrics.flow").optical_flow(clip[0], clip[1]).shape == (2, *size)


def test_a_still_clip_has_the_best_flicker_score_and_no_motion(animation, static):
    measured = animation.measure(texture(64, seed=4).permute(0, 2, 3, 1).repeat(5, 1, 1, 1), windows=static(5, 3))
    assert measured.flicker.value == 100
    assert measured.dynamic_degree.value == pytest.approx(0, abs=1e-3)
    assert measured.warp_error.value == pytest.approx(0, abs=1e-3)
    assert "nothing moves between seams" in measured.seam_ratio.not_available


def test_flicker_score_is_that_of_vbench(animation):
    clip = torch.zeros(4, 64, 64, 3)
    clip[1:3] = 51 / 255
    measured = animation.measure(clip).flicker
    assert measured.curve.tolist() == pytest.approx([51, 0, 51])
    assert measured.value == pytest.approx(100 * (255 - 34) / 255)


def test_warp_error_ignores_motion_and_sees_noise(animation):
    moving, noisy = animation.measure(panned(6, step=3)), animation.measure(noise(6))
    assert moving.dynamic_degree.value == pytest.approx(3, rel=0.15)
    assert moving.warp_error.value < 1 < 5 < moving.flicker.curve.mean()
    assert noisy.warp_error.value > 30


def test_warp_takes_a_frame_back_along_the_flow(pack):
    frame = texture(32, seed=5)[0].permute(1, 2, 0)
    flow = torch.zeros(2, 32, 32)
    flow[0] = 4
    warped, inside = pack.submodule("metrics.flow").warp(frame, flow)
    assert torch.allclose(warped[:, :28], frame[:, 4:], atol=1e-5)
    assert inside[:, :28].all()
    assert not inside[:, 28:].any()


@pytest.mark.parametrize(("jump", "low", "high"), [(0.0, 0.8, 1.2), (0.25, 2.0, 50.0)])
def test_seam_ratio_sees_a_jump_where_windows_meet(animation, static, jump, low, high):
    clip = panned(32, step=1) * 0.7
    clip[16:] += jump  # with windows of 16 and no overlap the second window begins here
    measured = animation.measure(clip, windows=static(32, 16))
    assert measured.seams == (15,)
    assert low < measured.seam_ratio.value < high


def test_a_jump_elsewhere_is_no_seam(animation, static):
    clip = panned(32, step=1) * 0.7
    clip[10:] += 0.25
    assert animation.measure(clip, windows=static(32, 16)).seam_ratio.value < 1


def test_seam_ratio_is_seams_over_the_rest(frame_measures):
    assert frame_measures.seam_ratio(torch.tensor([1.0, 3.0, 8.0, 2.0]), [2]) == pytest.approx(8 / 2)


def test_seams_lie_where_an_overlap_begins_and_ends(frame_measures, static):
    assert frame_measures.seams(28, static(28, 16, 4)) == [11, 15]


@given(frames=st.integers(1, 60), overlap=st.integers(0, 23), stride=st.integers(1, 24))
def test_windows_are_those_of_the_host(host_path, static, frames, overlap, stride):
    from comfy.context_windows import create_windows_static_standard

    settings = SimpleNamespace(context_length=overlap + stride, context_overlap=overlap)
    assert static(frames, overlap + stride, overlap) == create_windows_static_standard(frames, settings, {})


@pytest.mark.parametrize(
    ("frames", "length", "reason"),
    [(16, 0, "enter context_length"), (16, 16, "no seam"), (4, 1, "change after every frame")],
)
def test_without_seams_the_ratio_says_why(animation, static, frames, length, reason):
    measured = animation.measure(panned(frames, step=1), windows=static(frames, length) if length else ()).seam_ratio
    assert measured.value is None
    assert reason in measured.not_available


def test_without_opencv_the_flow_measures_say_what_to_install(animation, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    measured = animation.measure(panned(4, step=1))
    for measure in (measured.dynamic_degree, measured.warp_error):
        assert "pip install opencv-python-headless" in measure.not_available
    assert measured.flicker.value < 100


def test_alpha_is_ignored_and_grey_pictures_are_taken(animation):
    clip = panned(4, step=1)
    rgba = torch.cat((clip, noise(4)[..., :1]), -1)
    assert animation.report(animation.measure(rgba)) == animation.report(animation.measure(clip))
    assert animation.measure(clip[..., :1]).flicker.value < 100


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 8, 8, 3), "only one"),
        (torch.zeros(8, 8, 3), "shape"),
        (torch.zeros(2, 8, 8, 2), "shape"),
        (torch.full((2, 8, 8, 3), torch.nan), "NaN or infinity"),
    ],
)
def test_what_is_no_clip_is_refused_in_words(animation, images, message):
    with pytest.raises(ValueError, match=message):
        animation.measure(images)


def test_report_has_every_number_or_its_reason(animation, static):
    measured = animation.measure(panned(32, step=2), windows=static(32, 16))
    lines = animation.report(measured).splitlines()
    assert lines[0] == "32 frames of 96 x 96 pixels"
    assert lines[1] == "motion smoothness: not available: connect clip_vision"
    assert f"dynamic degree: {measured.dynamic_degree.value:.2f} pixels/frame" in lines[5]
    assert f"seam ratio: {measured.seam_ratio.value:.2f}" in lines[7]
    assert lines[8].startswith("seams after frames 15")
    assert lines[9].startswith(STILL_VIDEO)


@pytest.mark.parametrize(("low", "high"), [(0, 0), (99.7, 99.9), (0.2, 13.4), (31.4, 96.0), (0.03, 0.04), (3, 255)])
def test_axes_have_few_round_numbers_around_the_curve(pack, low, high):
    numbers, decimals = pack.submodule("metrics.plot").ticks(low, high)
    assert numbers[0] <= low <= high <= numbers[-1]
    assert 3 <= len(numbers) <= 6
    written = [f"{number:.{decimals}f}" for number in numbers]
    assert [float(number) for number in written] == pytest.approx(numbers)
    assert len(set(written)) == len(written)


def test_plot_draws_a_panel_for_each_curve_there_is(animation, static, pack):
    clip = panned(20, step=2)
    plot = pack.submodule("metrics.plot").plot
    without_windows = plot(animation.measure(clip))
    with_windows = plot(animation.measure(clip, windows=static(20, 16)))
    assert without_windows.shape == with_windows.shape == (1, 60 + 3 * 190, 960, 3)
    assert 0 <= without_windows.min() <= without_windows.max() <= 1
    red = [(plot[0, 60:, :, 0] > 0.7) & (plot[0, 60:, :, 1] < 0.4) for plot in (without_windows, with_windows)]
    assert not red[0].any()
    assert red[1].sum() > 3 * 100  # a line through each panel
