"""Camera poses: named motions, joining, replacing, files."""

import math

import numpy as np
import pytest

STANDARD = [0.474812461, 0.844111024, 0.5, 0.5, 1280, 720]


@pytest.fixture(scope="module")
def camera(pack):
    return pack.submodule("motion_models.adapters.camera")


def matrix(pose):
    return np.reshape(pose[7:], (3, 4))


def test_the_first_frame_stands_at_the_origin(camera):
    for motion in camera.MOTIONS:
        first, *others = camera.moving([(motion, 1.0)], speed=1.0, frames=3)
        assert first == [0.0, *STANDARD, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
        assert len(others) == 2
        assert (others[-1] == first) == (motion == "Static")


def test_speed_and_strength_are_those_of_the_incumbent(camera):
    pan = camera.moving([("Pan Left", 1.0)], speed=1.0, frames=16)
    assert matrix(pan[1])[:, 3].tolist() == [0.09375, 0, 0]
    assert matrix(pan[15])[:, 3].tolist() == [1.40625, 0, 0]
    tilt = camera.moving([("Tilt Left", 1.0)], speed=1.0, frames=4)
    assert matrix(tilt[3])[0] == pytest.approx([0.9808, 0, 0.1951, 0], abs=5e-5)
    zoom = camera.moving([("Zoom In", 0.5)], speed=-2.0, frames=2)
    assert matrix(zoom[1])[:, 3].tolist() == [0, 0, 0.1875]


def test_several_motions_add_up_and_turn_about_x_first(camera):
    moved = camera.moving([("Pan Up", 2.0), ("Zoom Out", 1.0), ("Static", 5.0)], speed=1.0, frames=2)[1]
    assert matrix(moved)[:, 3].tolist() == [0, 0.1875, 0.1875]
    turned = camera.moving([("Tilt Down", 24 / math.pi), ("Tilt Left", 24 / math.pi)], speed=1.0, frames=2)[1]
    angle = 0.5  # radians about x, then y
    s, c = math.sin(angle), math.cos(angle)
    about_x, about_y = [[1, 0, 0], [0, c, -s], [0, s, c]], [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    assert matrix(turned)[:, :3] == pytest.approx(np.matmul(about_y, about_x))


def test_joined_poses_go_on_from_where_the_first_end(camera):
    first = camera.moving([("Tilt Left", 1.0), ("Pan Up", 1.0)], 1.0, 3)
    then = camera.replaced(camera.moving([("Roll Clockwise", 1.0), ("Zoom In", 1.0)], 1.0, 2), {camera.FX: 0.9})
    before = [list(pose) for pose in (*first, *then)]
    joined = camera.joined(first, then)
    assert joined[:3] == first
    assert joined[3] == pytest.approx([*then[0][:7], *first[-1][7:]])  # the first frame of `then` has not moved yet
    old, new = matrix(first[-1]), matrix(then[1])
    assert matrix(joined[4])[:, :3] == pytest.approx(new[:, :3] @ old[:, :3])
    assert matrix(joined[4])[:, 3] == pytest.approx(new[:, 3] + new[:, :3] @ old[:, 3])
    assert [*first, *then] == before  # the host keeps them for other nodes
    assert camera.joined([], then) == then


def test_replacing_leaves_the_rest(camera):
    poses = camera.moving([("Pan Left", 1.0)], 1.0, 2)
    changed = camera.replaced(poses, {camera.WIDTH: 512, camera.CY: 0.25})
    assert changed[1][:7] == [0, *STANDARD[:3], 0.25, 512, 720]
    assert changed[1][7:] == poses[1][7:]
    assert poses[1][1:7] == STANDARD


LINE = "33 0.5 0.9 0.5 0.5 0 0 1 0 0 0.1 0 1 0 0.2 0 0 1 0.3"


def test_a_file_has_a_title_and_a_line_for_each_frame(camera, tmp_path):
    path = tmp_path / "poses.txt"
    path.write_text(f"https://example.com/clip\n{LINE}\n{LINE.replace('0.1', '0.4')}\n\n")
    poses = camera.read_poses(str(path))
    assert [pose[:7] for pose in poses] == [[33, 0.5, 0.9, 0.5, 0.5, 1280, 720]] * 2
    assert [pose[10] for pose in poses] == [0.1, 0.4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title\n1 2 3\n", "Line 2 of .* must hold 19 finite numbers"),
        (f"title\n{LINE}\n{LINE} x\n", "Line 3 of"),
        ("title\n", "no camera poses"),
        (f"title\n{LINE.replace('0.9', 'nan')}\n", "Line 2 of .* must hold 19 finite numbers"),
        (f"title\n{LINE.replace('0.9', '1e999')}\n", "Line 2 of .* must hold 19 finite numbers"),
        ("title\n" + "0 " * (3 << 20), "is larger than 4 MB"),
        (b"title\n\xff\xfe", "is no text"),
    ],
)
def test_other_files_are_refused_in_plain_words(camera, tmp_path, text, message):
    path = tmp_path / "poses.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(camera.PoseFileError, match=message):
        camera.read_poses(str(path))


def test_nodes_chain_and_read_files_again_when_they_change(pack, tmp_path):
    nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes.motion_models.camera").NODES}
    first = nodes["ADE_CameraPoseBasic"].execute(motion_type="Pan Left", speed=1.0, frame_length=3).result[0]
    types = {f"motion_type{i}": "Static" for i in range(2, 7)} | {"motion_type1": "Zoom Out"}
    both = nodes["ADE_CameraPoseCombo"].execute(**types, speed=1.0, frame_length=2, prev_poses=first).result[0]
    assert len(both) == 5
    assert matrix(both[4])[:, 3].tolist() == [0.1875, 0, 0.1875]
    strengths = {f"strength{i}": 0.5 for i in range(1, 7)}
    half = nodes["ADE_CameraPoseAdvanced"].execute(**types, **strengths, speed=1.0, frame_length=2).result[0]
    assert matrix(half[1])[:, 3].tolist() == [0, 0, 0.09375]
    appended = nodes["ADE_CameraManualPoseAppend"].execute(poses_first=first, poses_last=half).result[0]
    assert len(appended) == 5
    wide = nodes["ADE_ReplaceOriginalPoseAspectRatio"].execute(poses=half, orig_pose_width=512, orig_pose_height=256)
    assert wide.result[0][1][5:7] == [512, 256]
    lens = nodes["ADE_ReplaceCameraParameters"].execute(poses=half, fx=0.1, fy=0.2, cx=0.3, cy=0.4).result[0]
    assert lens[1][1:5] == [0.1, 0.2, 0.3, 0.4]

    load = nodes["ADE_LoadCameraPosesFromPath"]
    path = tmp_path / "poses.txt"
    path.write_text(f"title\n{LINE}\n")
    quoted = f'"{path}"'
    before = load.fingerprint_inputs(file_path=quoted)
    assert len(load.execute(file_path=quoted).result[0]) == 1
    assert load.fingerprint_inputs(file_path=quoted) == before
    path.write_text(f"title\n{LINE}\n{LINE}\n")
    assert load.fingerprint_inputs(file_path=quoted) != before


def test_pose_files_in_the_input_folder_are_listed(pack):
    import folder_paths

    with open(f"{folder_paths.get_input_directory()}/poses.txt", "w") as file:
        file.write(f"title\n{LINE}\n")
    load = pack.submodule("nodes.motion_models.camera").LoadCameraPoses
    assert "poses.txt" in load.define_schema().inputs[0].options
    assert len(load.execute(pose_filename="poses.txt").result[0]) == 1
