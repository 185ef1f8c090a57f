"""What a table may say, and what is told of one that is wrong, before anything starts."""

import json

import pyarrow.parquet
import pytest
from batches import WORKFLOW

from cluster.table import Table, TableError, against, column_of, read_workflow


def mistakes(path, workflow, constants=None) -> str:
    with pytest.raises(TableError) as caught:
        Table(path, workflow, constants).check()
    return str(caught.value)


def prompts(table: Table) -> list[dict]:
    return [job.prompt(table.workflow, {}, "here") for job in table.jobs()]


def test_cells_take_the_place_of_values(write_table, workflow):
    path = write_table(
        {"3.seed": "7", "The sampler.text": "a cat, sitting", "3.seconds": "1"},
        {"3.seed": "8", "The sampler.text": "", "3.seconds": "2.5"},
    )
    table = Table(path, workflow)
    assert table.check() == 2
    first, second = (prompt["3"]["inputs"] for prompt in prompts(table))
    assert first == {"seed": 7, "seconds": 1, "text": "a cat, sitting", "then": ""}
    assert second == {"seed": 8, "seconds": 2.5, "text": "a fox", "then": ""}
    assert workflow["3"] == WORKFLOW["3"]


def test_jobs_are_named_by_their_row_in_a_spreadsheet_or_by_a_column(write_table, workflow):
    rows = [{"3.seed": "7", "job": "fox-1", "# note": "nice"}, {"3.seed": "8", "job": ""}]
    assert [job.name for job in Table(write_table(*rows), workflow).jobs()] == ["fox-1", "00003"]


def test_save_nodes_write_into_the_folder_of_the_job(write_table, workflow):
    (prompt,) = prompts(Table(write_table({"3.seed": "7"}), workflow))
    assert prompt["9"]["inputs"]["filename_prefix"] == "here/clips/fox"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_any_spreadsheet_s_csv(write_table, workflow, delimiter):
    table = Table(write_table({"3.seed": "7", "3.text": "a, b; c"}, delimiter=delimiter), workflow)
    assert prompts(table)[0]["3"]["inputs"]["text"] == "a, b; c"


def test_parquet_is_as_csv(write_table, workflow, tmp_path):
    columns = {"3.seed": [7, 8], "3.text": ["a cat", None], "3.seconds": [1.5, 2.0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet")
    csv = write_table(*({name: cells[row] for name, cells in columns.items()} for row in (0, 1)))
    parquet = Table(tmp_path / "table.parquet", workflow)
    assert prompts(parquet) == prompts(Table(csv, workflow))
    assert parquet.check() == 2


def test_a_title_may_have_dots_and_an_id_wins(workflow):
    workflow["4"] = {"class_type": "Sleep", "inputs": {"seed": 1}, "_meta": {"title": "v1.5"}}
    workflow["5"] = {"class_type": "Sleep", "inputs": {"seed": 1}, "_meta": {"title": "3"}}
    assert column_of("v1.5.seed", workflow).node == "4"
    assert column_of("3.seed", workflow).node == "3"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("prompt", r"headed NODE\.INPUT"),
        ("sampler.seed", r"no node has the id or title 'sampler'.*3 \(The sampler\), 9"),
        ("3.sed", r"'3' \(Sleep\) has no input 'sed'.*seed, seconds, text"),
        ("9.images", r"linked to the node '3'"),
        ("Twin.seed", r"may be 4\.seed or 5\.seed.*Write the id"),
        ("3.text:file.png", r"nothing comes behind ':file'"),
    ],
)
def test_wrong_columns(header, message, workflow):
    for name in "45":
        workflow[name] = {"class_type": "Sleep", "inputs": {"seed": 1}, "_meta": {"title": "Twin"}}
    with pytest.raises(TableError, match=message) as caught:
        column_of(header, workflow)
    assert f"Column '{header}'" in str(caught.value)


def test_all_wrong_columns_are_told_at_once(write_table, workflow):
    told = mistakes(write_table({"3.sed": "1", "prompt": "x", "3.seed": "1", "The sampler.seed": "1"}), workflow)
    assert len(told.splitlines()) == 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"3.seed": "seven"}, "Row 3, column '3.seed': 'seven' is no number"),
        ({"3.seed": "inf"}, "Row 3, column '3.seed': 'inf' is no number"),
        ({"9.flag": "maybe"}, "Row 3, column '9.flag': 'maybe' is neither true nor false"),
        ({"3.text:file": "lost.png"}, "Row 3, column '3.text:file': there is no file"),
        ({"3.seed": "7", "job": "../x"}, "Row 3: '../x' cannot name a job"),
        ({"3.seed": "7", "job": "%date%"}, "cannot name a job"),
        ({"3.seed": "1"}, "Row 3 is the same job as row 2.*A column for the seed"),
        ({"3.seed": "7", "job": "00002"}, "Row 3 has the name '00002' of row 2"),
    ],
)
def test_wrong_rows_are_told_by_number(write_table, workflow, row, message):
    workflow["9"]["inputs"]["flag"] = True
    fine = {"3.seed": "1"}
    with pytest.raises(TableError, match=message):
        Table(write_table(fine, row), workflow).check()


def test_cells_without_a_column(tmp_path, workflow):
    (tmp_path / "table.csv").write_text("3.seed,3.text\n1,a fox, running\n")
    assert "Row 2 has more cells than the header" in mistakes(tmp_path / "table.csv", workflow)


def test_many_mistakes_are_cut(write_table, workflow):
    told = mistakes(write_table(*({"3.seed": f"x{i}"} for i in range(1000))), workflow)
    assert len(told.splitlines()) == 21


def test_equal_jobs_have_equal_keys_whatever_files_and_columns_are_called(write_table, tmp_path, workflow):
    workflow["picture"] = WORKFLOW["picture"]
    (tmp_path / "a.png").write_bytes(b"1")
    (tmp_path / "b.png").write_bytes(b"1")
    (tmp_path / "c.png").write_bytes(b"2")

    def key(name: str, **row) -> str:
        (job,) = Table(write_table({"picture.image:file": name, **row}), workflow).jobs()
        return job.key

    assert key("a.png", **{"3.seed": "5"}) == key("b.png", **{"The sampler.seed": "5"})
    assert key("a.png", **{"3.seed": "5"}) != key("c.png", **{"3.seed": "5"})
    assert key("a.png", **{"3.seed": "5"}) != key("a.png", **{"3.seed": "6"})


def test_set_is_a_column_with_one_value(write_table, workflow):
    path = write_table({"3.seed": "7"}, {"3.seed": "8"})
    table = Table(path, workflow, {"3.seconds": "4"})
    assert [prompt["3"]["inputs"]["seconds"] for prompt in prompts(table)] == [4, 4]
    assert "the table has this column too" in mistakes(path, workflow, {"3.seed": "4"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"nodes": [], "links": []}', r"Export \(API\)"),
        ('{"3": {"inputs": {}}}', "no API prompt"),
        ("[1]", "no API prompt"),
        ("{", "no JSON"),
        (None, "cannot be read"),
    ],
)
def test_other_workflows(tmp_path, content, message):
    if content is not None:
        (tmp_path / "workflow.json").write_text(content)
    with pytest.raises(TableError, match=message):
        read_workflow(tmp_path / "workflow.json")


def test_tables_that_cannot_be_read(tmp_path, workflow):
    assert "cannot be read" in mistakes(tmp_path / "none.csv", workflow)
    (tmp_path / "latin.csv").write_bytes("3.text\nBär\n".encode("latin-1"))
    assert "not UTF-8" in mistakes(tmp_path / "latin.csv", workflow)
    (tmp_path / "table.parquet").write_bytes(b"no parquet")
    assert "cannot be read" in mistakes(tmp_path / "table.parquet", workflow)
    (tmp_path / "empty.csv").write_text("3.seed\n")
    assert "no rows" in mistakes(tmp_path / "empty.csv", workflow)


def test_what_only_the_server_knows(write_table):
    interface = {
        "Sleep": {"input": {"required": {"seed": ["INT", {"min": 0}], "seconds": ["FLOAT", {}]}}},
        "LoadImage": {"input": {"required": {"image": [["a.png"], {"image_upload": True}]}}},
    }
    path = write_table({"3.seed": "7.5", "3.seconds": "1.5", "picture.image": "fox.png"})
    (job,) = Table(path, WORKFLOW).jobs()
    whole, sent = against(interface, WORKFLOW)(job)
    assert whole == "Row 2, column '3.seed': '7.5' is no whole number."
    assert "'picture.image:file'" in sent
    assert against({}, WORKFLOW)(job) == []


def test_ten_thousand_rows_do_not_stay_in_memory(tmp_path, workflow):
    import tracemalloc

    text = "x" * 2000
    (tmp_path / "table.csv").write_text("3.seed,3.text\n" + "".join(f"{i},{text}\n" for i in range(10_000)))
    table = Table(tmp_path / "table.csv", workflow)
    tracemalloc.start()
    assert table.check() == 10_000
    assert sum(1 for _ in table.jobs()) == 10_000
    assert tracemalloc.get_traced_memory()[1] < 10e6  # of 20 MB; a name and a key of each row stay
    tracemalloc.stop()


def test_the_workflow_of_the_command_line_is_a_file(tmp_path, workflow):
    (tmp_path / "workflow.json").write_text(json.dumps(workflow))
    assert read_workflow(tmp_path / "workflow.json") == workflow
