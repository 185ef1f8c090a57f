"""Camera poses: named motions, joining, replacing, files."""

import math
import os
from pathlib import Path

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


def test_nodes_chain_and_read_files_again_when_they_change(pack):
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

    import folder_paths

    load = nodes["ADE_LoadCameraPosesFromPath"]
    path = Path(folder_paths.get_input_directory()) / "poses.txt"
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


@pytest.fixture
def load_path(pack, monkeypatch):
    """The node that takes a path; without the permission that the environment of this test may give."""
    monkeypatch.delenv("ANIMATEDIFF_ALLOW_ANY_PATH", raising=False)
    return pack.submodule("nodes.motion_models.camera").LoadCameraPosesFromPath


@pytest.fixture
def looked_at(monkeypatch):
    """Paths that the system is asked about."""
    asked = []
    for module, name in ((os, "stat"), (os, "lstat"), (os.path, "realpath"), (os.path, "exists"), (os.path, "isfile")):
        function = getattr(module, name)

        def watched(path, *args, function=function, **kwargs):
            asked.append(str(path))
            return function(path, *args, **kwargs)

        monkeypatch.setattr(module, name, watched)
    return asked


def message(load, path: str) -> str:
    with pytest.raises(ValueError) as told:
        load.execute(file_path=path)
    return str(told.value)


def test_what_lies_outside_the_hosts_folders_is_not_read_and_not_revealed(load_path, tmp_path, looked_at):
    secret = tmp_path / "poses.txt"
    secret.write_text(f"title\n{LINE}\n")
    missing = str(tmp_path / "missing.txt")
    looked_at.clear()
    told = message(load_path, str(secret))
    assert told == message(load_path, missing)
    assert (
        load_path.fingerprint_inputs(file_path=str(secret)) is load_path.fingerprint_inputs(file_path=missing) is None
    )
    assert not any(str(tmp_path) in path for path in looked_at)
    assert "ANIMATEDIFF_ALLOW_ANY_PATH=1" in told
    assert "input folder" in told


def test_a_link_out_of_the_hosts_folders_is_not_followed(load_path, tmp_path):
    import folder_paths

    (tmp_path / "poses.txt").write_text(f"title\n{LINE}\n")
    link = Path(folder_paths.get_input_directory()) / "link.txt"
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path / "poses.txt")
    try:
        assert "not below ComfyUI's folders" in message(load_path, str(link))
        assert load_path.fingerprint_inputs(file_path=str(link)) is None
    finally:
        link.unlink()


@pytest.mark.parametrize("path", ["../../poses.txt", "sub/../../../poses.txt"])
def test_dots_do_not_lead_out(load_path, path):
    import folder_paths

    told = message(load_path, os.path.join(folder_paths.get_input_directory(), path, "..", "..", "poses.txt"))
    assert "not below ComfyUI's folders" in told


@pytest.mark.parametrize("path", [r"\\server\share\poses.txt", "//server/share/poses.txt", r"\\.\pipe\poses.txt"])
def test_other_machines_are_never_asked(load_path, looked_at, monkeypatch, path):
    for allowed in ("0", "1"):
        monkeypatch.setenv("ANIMATEDIFF_ALLOW_ANY_PATH", allowed)
        assert "never opened" in message(load_path, f'"{path}"')
        assert load_path.fingerprint_inputs(file_path=path) is None
    assert not any("server" in each or "pipe" in each for each in looked_at)


def test_who_starts_the_host_may_allow_every_path(load_path, tmp_path, monkeypatch):
    path = tmp_path / "poses.txt"
    path.write_text(f"title\n{LINE}\n")
    monkeypatch.setenv("ANIMATEDIFF_ALLOW_ANY_PATH", "1")
    assert len(load_path.execute(file_path=str(path)).result[0]) == 1
    assert load_path.fingerprint_inputs(file_path=str(path)) is not None
    assert "missing.txt" in message_of_missing(load_path, str(tmp_path / "missing.txt"))


def message_of_missing(load, path: str) -> str:
    with pytest.raises(FileNotFoundError) as told:
        load.execute(file_path=path)
    return str(told.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_other_kinds_of_files_are_refused_without_waiting(camera, tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "poses.json").write_text(f"title\n{LINE}\n")
    (tmp_path / "folder.txt").mkdir()
    for name in ("pipe.txt", "poses.json", "folder.txt"):
        with pytest.raises(camera.PoseFileError, match=r"is no \.txt file"):
            camera.read_poses(str(tmp_path / name))


def test_the_node_for_files_stays_in_the_folders_too(pack, tmp_path):
    (tmp_path / "poses.txt").write_text(f"title\n{LINE}\n")
    load = pack.submodule("nodes.motion_models.camera").LoadCameraPoses
    with pytest.raises(ValueError):  # the newest hosts refuse it with a message of their own
        load.run(pose_filename=str(tmp_path / "poses.txt"))
