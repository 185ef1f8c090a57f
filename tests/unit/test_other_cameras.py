"""Camera poses from ComfyUI's own camera nodes, and the picture of a camera's way."""

import math

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def camera(pack):
    return pack.submodule("motion_models.adapters.camera")


@pytest.fixture(scope="module")
def cameras(pack):
    return pack.submodule("motion_models.adapters.other_cameras")


@pytest.fixture(scope="module")
def to_world(pack):
    return lambda poses: pack.submodule("motion_models.adapters.plucker").to_world(poses).numpy()


def info(place, target=(0, 0, 0), quaternion=None, **more) -> dict:
    made = {"position": dict(zip("xyz", place, strict=True)), "target": dict(zip("xyz", target, strict=True))}
    if quaternion is not None:
        made["quaternion"] = dict(zip("xyzw", quaternion, strict=True))
    return made | {"zoom": 1, "cameraType": "perspective", "fov": 40.0} | more


@pytest.mark.parametrize(
    ("end", "moved"),
    [
        ((0, 0, 3), (0, 0, 2)),  # towards the target: ahead
        ((1, 0, 5), (1, 0, 0)),
        ((0, 1, 5), (0, -1, 0)),  # y of a viewer is up, y of a picture down
    ],
)
def test_a_viewers_camera_moves_as_it_does_there(cameras, to_world, end, moved):
    straight = (0, 0, 0, 1)
    poses = cameras.between(info((0, 0, 5), quaternion=straight), info(end, quaternion=straight), 5)
    matrices = to_world(poses)
    assert len(poses) == 5
    np.testing.assert_allclose(matrices[-1][:, 3], moved, atol=1e-9)
    np.testing.assert_allclose(matrices[2][:, 3], np.array(moved) / 2, atol=1e-9)
    np.testing.assert_allclose(matrices[:, :, :3], np.tile(np.eye(3), (5, 1, 1)), atol=1e-9)
    scaled = cameras.between(info((0, 0, 5), quaternion=straight), info(end, quaternion=straight), 2, scale=3.0)
    np.testing.assert_allclose(to_world(scaled)[-1][:, 3], 3 * np.array(moved), atol=1e-9)


def test_directions_turn_evenly_by_the_shorter_way(cameras, to_world):
    quarter = (0, math.sin(math.pi / 4), 0, math.cos(math.pi / 4))  # to the left, about y
    for sign in (1, -1):  # both mean the same direction
        end = info((0, 0, 5), quaternion=[sign * number for number in quarter])
        ahead = to_world(cameras.between(info((0, 0, 5), quaternion=(0, 0, 0, 1)), end, 3))[:, :, 2]
        np.testing.assert_allclose(ahead[1], [-math.sin(math.pi / 4), 0, math.cos(math.pi / 4)], atol=1e-9)
        np.testing.assert_allclose(ahead[2], [-1, 0, 0], atol=1e-9)


@pytest.mark.parametrize("place", [(0, 0, 5), (3, 1, 2), (-2, 4, -1), (0, 5, 0), (0, -5, 0)])
def test_without_a_quaternion_the_camera_looks_at_its_target(cameras, place):
    (pose,) = cameras.between(info(place, target=(1, 0, 0)), info(place, target=(1, 0, 0)), 1)
    seen = np.reshape(pose[7:], (3, 4)) @ [1, 0, 0, 1]  # the target, as the camera sees it
    np.testing.assert_allclose(seen[:2], 0, atol=1e-9)
    assert seen[2] == pytest.approx(math.dist(place, (1, 0, 0)))
    above = np.reshape(pose[7:], (3, 4)) @ [1, 0.1, 0, 1]
    assert place[0] == 0 or above[1] < 0  # up in the world is up in the picture


def test_field_of_view_zoom_and_aspect_are_the_lens(cameras, camera):
    start, end = info((0, 0, 5), fov=60.0, aspect=2.0), info((0, 0, 5), fov=60.0, zoom=2.0, aspect=2.0)
    first, last = cameras.between(start, end, 2)
    assert first[camera.FY] == pytest.approx(0.5 / math.tan(math.radians(30)))
    assert last[camera.FY] == pytest.approx(2 * first[camera.FY])
    assert first[camera.FX] == pytest.approx(first[camera.FY] / 2)
    assert first[camera.WIDTH] / first[camera.HEIGHT] == pytest.approx(2.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"position": {"x": 0, "y": 0}, "target": {}},
        info((0, 0, 0)),  # looks nowhere
        info((0, 0, math.nan), quaternion=(0, 0, 0, 1)),
        info((0, 0, 5), quaternion=(0, 0, 0, 0)),
        info((0, 0, 5), fov=180.0),
        info((0, 0, 5), fov="wide"),
    ],
)
def test_what_is_no_camera_is_refused(cameras, wrong):
    with pytest.raises(ValueError, match=r"no camera of a 3D viewer: .* Connect camera_info of Load 3D"):
        cameras.between(wrong, wrong, 2)


POSES = ["Static", "Pan Up", "Pan Left", "Zoom In", "Anti Clockwise (ACW)"]


@pytest.mark.parametrize("name", POSES)
def test_wans_rays_give_back_the_camera_that_they_were_made_of(host_path, cameras, camera, to_world, name):
    from comfy_extras import nodes_camera_trajectory as core

    made = core.WanCameraEmbedding.execute(name, 48, 32, 9, speed=1.5, fx=0.6, fy=0.9, cx=0.4, cy=0.55).result[0]
    poses = cameras.of_rays(made)
    motion = core.CAMERA_DICT[name]
    expected = core.get_camera_motion(np.array(motion["angle"]), np.array(motion["T"]), 1.5, 9)
    np.testing.assert_allclose(
        to_world(poses), expected, atol=1e-4
    )  # that node's matrices lead from the camera to the world
    fx = 0.6 * (1280 / 720) / (48 / 32)  # it crops what was seen in 16:9
    for pose in poses:
        assert pose[1:7] == pytest.approx([fx, 0.9, 0.4, 0.55, 48, 32], abs=1e-3)
    camera.check_poses(poses, "poses")


def test_other_tensors_are_no_rays(cameras):
    with pytest.raises(ValueError, match=r"the shape \(1, 6, 2, 4, 4\), .* Connect WanCameraEmbedding"):
        cameras.of_rays(torch.zeros(1, 6, 2, 4, 4))


@pytest.fixture
def nodes(pack):
    found = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}
    return lambda node_id, **inputs: found[node_id].execute(**inputs).result[0]


def colours(picture: torch.Tensor, colour: tuple) -> torch.Tensor:
    """The places ``(k, 2)`` of pixels near a colour: row, column."""
    return ((picture[0] * 255 - torch.tensor(colour)).abs().amax(-1) < 12).nonzero()


BLUE, RED = (0x2A, 0x6F, 0x97), (0xD1, 0x49, 0x5B)


@pytest.mark.parametrize(
    ("motion", "above", "beside"),
    [  # which way the red dot lies from the blue one: columns, rows
        ("Pan Left", (-1, 0), (0, 0)),
        ("Zoom In", (0, -1), (1, 0)),
        ("Pan Up", (0, 0), (0, -1)),
    ],
)
def test_the_picture_shows_where_the_camera_goes(nodes, camera, motion, above, beside):
    poses = camera.moving([(motion, 1.0)], 1.0, 12)
    picture = nodes("AnimateDiffPlotCameraPoses", poses=poses)
    assert picture.shape == (1, 510, 920, 3)
    for half, expected in ((slice(0, 470), above), (slice(470, None), beside)):
        # below the title and its legend
        blue, red = (colours(picture[:, 60:, half], colour).float().median(0).values for colour in (BLUE, RED))
        moved = [int(torch.sign(step)) if abs(step) > 30 else 0 for step in (red - blue).flip(0)]
        assert tuple(moved) == expected


def test_one_pose_is_drawn_and_none_is_refused(nodes, camera):
    assert nodes("AnimateDiffPlotCameraPoses", poses=camera.moving([("Static", 1.0)], 1.0, 1)).shape == (1, 510, 920, 3)
    with pytest.raises(ValueError, match="holds no camera poses"):
        nodes("AnimateDiffPlotCameraPoses", poses=[])


def test_nodes_go_on_from_earlier_poses(nodes, camera):
    start, end = info((0, 0, 5), quaternion=(0, 0, 0, 1)), info((0, 0, 4), quaternion=(0, 0, 0, 1))
    before = camera.moving([("Pan Left", 1.0)], 1.0, 3)
    given = {"start": start, "end": end, "frame_length": 4, "scale": 1.0, "prev_poses": before}
    assert len(nodes("AnimateDiffCameraPosesFromCameraInfo", **given)) == 7
