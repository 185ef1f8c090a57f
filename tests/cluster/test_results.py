"""Finished jobs are never lost and never done twice, wherever a run is cut off."""

import errno
import json
import os

import pytest

from cluster import results as results_module
from cluster.results import Results
from cluster.table import Table, TableError
from cluster.worker import DONE, FAILED


@pytest.fixture
def table(write_table, workflow) -> Table:
    return Table(write_table(*({"3.seed": str(seed)} for seed in range(3))), workflow)


def left(results: Results, table: Table, retry_failed: bool = False) -> list[str]:
    return [job.name for job in results.to_do(table.jobs(), retry_failed)]


def lines(results: Results) -> list[tuple[str, str]]:
    return [(line["job"], line["status"]) for line in map(json.loads, results.manifest.read_text().splitlines())]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_what_is_finished_is_not_done_again(table, out):
    first, second, _ = table.jobs()
    with Results(out) as results:
        results.finish(first, {"clips/fox.webp": b"frames"}, seconds=2.0)
        results.fail(second, "Value not in list")
    assert (out / "00002" / "clips" / "fox.webp").read_bytes() == b"frames"
    with Results(out) as results:
        assert table.check(results.mistakes) == 3
        assert left(results, table) == ["00004"]
        assert left(results, table, retry_failed=True) == ["00003", "00004"]
        assert results.records["00002"]["files"] == ["clips/fox.webp"]
        assert results.records["00003"]["error"] == "Value not in list"
        assert lines(results) == [("00002", DONE), ("00003", FAILED)]


def test_killed_in_the_middle_of_a_line(table, out):
    first, second, _ = table.jobs()
    with Results(out) as results:
        results.finish(first, {"a": b"1"})
        results.finish(second, {"a": b"2"})
    os.truncate(results.manifest, results.manifest.stat().st_size - 20)
    with Results(out) as results:
        assert lines(results) == [("00002", DONE), ("00003", DONE)]
        assert left(results, table) == ["00004"]


def test_killed_between_the_folder_and_its_line(table, out, monkeypatch):
    first, *_ = table.jobs()
    with Results(out) as results:
        monkeypatch.setattr(results, "_append", lambda record: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            results.finish(first, {"a": b"1"})
    with Results(out) as results:
        assert lines(results) == [("00002", DONE)]
        assert left(results, table) == ["00003", "00004"]


def test_killed_or_full_while_files_are_written(table, out, monkeypatch):
    first, *_ = table.jobs()
    write = results_module.write

    def full(path, content):
        if path.name == "b":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(results_module, "write", full)
    with Results(out) as results, pytest.raises(OSError, match="No space"):
        results.finish(first, {"a": b"1", "b": b"2"})
    assert not (out / "00002").exists()
    monkeypatch.undo()
    (out / ".unfinished" / "00002").mkdir(parents=True)  # as a kill leaves it
    with Results(out) as results:
        assert "00002" in left(results, table)
        results.finish(first, {"a": b"1", "b": b"2"})
        assert "00002" not in left(results, table)


def test_files_that_workers_wrote_are_moved(table, out):
    first, *_ = table.jobs()
    with Results(out) as results:
        there = results.unfinished("00002-0")
        there.mkdir()
        (there / "fox.webp").write_bytes(b"frames")
        results.finish(first, there)
    assert (out / "00002" / "fox.webp").read_bytes() == b"frames"
    assert not (out / ".unfinished").exists()


def test_results_of_another_workflow_are_not_mixed_in(table, out, write_table, workflow):
    first, *_ = table.jobs()
    with Results(out) as results:
        results.finish(first, {"a": b"1"})
    workflow["3"]["inputs"]["text"] = "a bear"
    other = Table(table.path, workflow)
    with (
        Results(out) as results,
        pytest.raises(TableError, match=r"Row 2: .*00002' was rendered with another workflow"),
    ):
        other.check(results.mistakes)


def test_a_failed_row_that_was_mended_is_rendered(out, write_table, workflow):
    with Results(out) as results:
        (job,) = Table(write_table({"3.text": "refused"}), workflow).jobs()
        results.fail(job, "no")
        assert left(results, Table(write_table({"3.text": "refused"}), workflow)) == []
        assert left(results, Table(write_table({"3.text": "mended"}), workflow)) == ["00002"]


def test_a_folder_that_was_removed_is_rendered_again(table, out):
    first, *_ = table.jobs()
    with Results(out) as results:
        results.finish(first, {})
        for path in (out / "00002").iterdir():
            path.unlink()
        (out / "00002").rmdir()
        assert left(results, table)[0] == "00002"


def test_folders_of_the_user_are_left_alone(table, out):
    (out / "00003").mkdir(parents=True)
    with Results(out) as results, pytest.raises(TableError, match=r"Row 3: .*is there and is no result"):
        table.check(results.mistakes)


def test_one_run_at_a_time(out):
    with Results(out), pytest.raises(TableError, match="Another run"), Results(out):
        pass
    with Results(out):
        pass


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "c:\\x", ""])
def test_files_do_not_leave_their_folder(table, out, name):
    first, *_ = table.jobs()
    with Results(out) as results, pytest.raises(ValueError, match="a worker sent"):
        results.finish(first, {name: b"1"})
    assert not (out.parent / "x").exists()


def test_a_manifest_that_somebody_edited(out):
    out.mkdir()
    (out / "manifest.jsonl").write_text('{"job": "a", "status": "done", "key": "x"}\nhello\n')
    with pytest.raises(TableError, match="line 2"), Results(out):
        pass
