"""Where chunks are cleaned makes no difference to the result."""

import os

import pytest

from burnish.cleaning import workers
from burnish.cleaning.clean import clean
from burnish.cleaning.row import Chunk, RowSettings
from burnish.cleaning.workers import clean_chunks, free_cores
from burnish.conversation import Record
from burnish.errors import RunError
from burnish.recipe import CleanSection, DataSection, Source
from burnish.run_dir import RunDir
from tests.cleaning.test_clean import files_of, made_up_rows, write_rows

SETTINGS = RowSettings((Source(path="x.csv"),), CleanSection(), None, None)


def chunk(number, *rows):
    records = [
        Record({"instruction": f"q{row}", "output": f"a{row}"}, f"x.csv:{row}") for row in rows
    ]
    return Chunk(number, 0, "alpaca", tuple(records))


def test_chunks_come_back_in_their_order_from_several_processes():
    given = [chunk(number, 2 * number + 2, 2 * number + 3) for number in range(9)]
    section = CleanSection(num_workers=2)
    done = list(clean_chunks(iter(given), SETTINGS, section))
    assert [c.number for c in done] == list(range(9))
    here = list(clean_chunks(iter(given), SETTINGS, CleanSection(num_workers=1)))
    assert [c.lines for c in done] == [c.lines for c in here]
    assert all(
        (a.table.signatures == b.table.signatures).all() for a, b in zip(done, here, strict=True)
    )


def test_few_chunks_are_cleaned_here_without_starting_a_process(monkeypatch):
    monkeypatch.setattr(workers, "_in_processes", None)
    given = [chunk(number, number + 2) for number in range(workers.NUM_INLINE)]
    assert len(list(clean_chunks(given, SETTINGS, CleanSection(num_workers=2)))) == 3


def test_a_worker_that_dies_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(workers, "_clean_in_worker", os._exit)
    given = [1] * 5  # the exit code
    with pytest.raises(RunError) as caught:
        list(workers._in_processes(iter(given), SETTINGS, 2))
    assert str(caught.value) == (
        "clean: a worker process ended before its work was done, perhaps for want of memory.\n"
        "  Run it again with --set clean.num_workers=1; what is finished is kept."
    )


def test_there_is_at_least_one_free_core():
    assert 1 <= free_cores() <= (os.cpu_count() or 1)


@pytest.mark.filterwarnings("ignore")
def test_two_workers_of_ray_write_the_same_bytes_as_a_local_run(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr("burnish.cleaning.clean.CHUNK_ROWS", 40)
    source = write_rows(tmp_path / "a.csv", made_up_rows(300))
    data = DataSection(sources=[source])
    results = {}
    for engine in ("local", "ray"):
        run = RunDir(tmp_path / engine)
        report = clean(data, CleanSection(engine=engine, num_workers=2), run)
        assert report.num_read == 300
        results[engine] = files_of(run.folder("clean"))
    assert set(results["ray"]) >= {"conversations.jsonl", "rejected.jsonl", "ledger.jsonl"}
    assert results["ray"] == results["local"]
