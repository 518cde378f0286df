"""Where chunks are cleaned makes no difference to the result."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import active_children
from pathlib import Path

import pytest

from burnish.cleaning import workers
from burnish.cleaning.clean import clean
from burnish.cleaning.row import Chunk, RowSettings
from burnish.cleaning.workers import clean_chunks
from burnish.conversation import Record
from burnish.errors import DataError, RunError
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


def test_a_worker_that_dies_is_one_clear_error():
    exit_codes = [1] * 5
    with pytest.raises(RunError) as caught:
        list(workers._in_processes(exit_codes, os._exit, 2))
    assert str(caught.value) == (
        "clean: a worker process ended before its work was done, perhaps for want of memory.\n"
        "  Run it again with --set clean.num_workers=1; what is finished is kept."
    )


def refuse(_):
    raise DataError("x.csv:7", "no answer in this row.", "Name its column.")


class Refused:
    """A chunk that can't be unpickled where it is to be cleaned."""

    number = 0

    def __reduce__(self):
        return refuse, (self.number,)


def check_whole(error):
    assert (error.where, error.problem, error.remedy) == (
        "x.csv:7",
        "no answer in this row.",
        "Name its column.",
    )


def end_of_file(_):
    raise EOFError("the file ends too early")


def test_an_error_of_the_work_is_not_taken_for_the_end_of_a_worker():
    with pytest.raises(EOFError, match="the file ends too early"):
        list(workers._in_processes([1] * 5, end_of_file, 2))


def test_no_more_processes_are_started_than_there_is_work_for():
    done = workers._in_processes([-1, -2, -3], abs, 99)
    assert next(done) == 1
    assert len(active_children()) <= 3
    assert list(done) == [2, 3]
    assert not active_children()


def test_an_error_in_a_worker_process_arrives_whole():
    with pytest.raises(DataError) as caught:
        list(workers._in_processes([1] * 5, refuse, 2))
    check_whole(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_an_error_in_a_worker_of_ray_arrives_whole():
    pytest.importorskip("ray")
    with pytest.raises(DataError) as caught:
        list(clean_chunks([Refused()], SETTINGS, CleanSection(engine="ray", num_workers=1)))
    check_whole(caught.value)


PARENT = """
from functools import partial
from multiprocessing import active_children
from burnish.cleaning.row import clean_chunk
from tests.cleaning.test_workers import SETTINGS, chunk
from burnish.cleaning import workers

if __name__ == "__main__":
    endless = (chunk(number, 2, 3) for number in iter(int, 1))
    cleaned = workers._in_processes(endless, partial(clean_chunk, settings=SETTINGS), 2)
    next(cleaned)
    assert len(active_children()) == 2
    print("cleaning", flush=True)
    for _ in cleaned:
        pass
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert parent.stdout.readline() == "cleaning\n"
        parent.kill()
        # The workers have these streams, too: they are at their end when the last of them is gone.
        _, errors = parent.communicate(timeout=30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("work", "items"),
    [(time.sleep, [0] * 4 + [600] * 9), (bytes, [2**26] * 9)],
    ids=["busy", "in the middle of a large answer"],
)
def test_a_worker_is_not_waited_for_when_the_work_is_given_up(work, items):
    done = workers._in_processes(items, work, 2)
    next(done)
    started = time.monotonic()
    done.close()
    assert time.monotonic() - started < 60


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_process_that_is_being_started_does_not_get_ctrl_c():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('alive')"
    with workers._without_ctrl_c():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"alive\n", b"")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_nor_does_the_first_worker_of_all():
    """With it Python starts a process that looks after others, and then unblocks Ctrl-C."""
    code = """if True:
        import signal
        from functools import partial
        from burnish.cleaning.workers import _in_processes

        blocked = partial(signal.pthread_sigmask, signal.SIG_BLOCK)
        print([signal.SIGINT in found for found in _in_processes([[], []], blocked, 2)])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[True, True]\n", "")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_ctrl_c_while_processes_are_started_is_not_lost():
    def start():
        with workers._without_ctrl_c():
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        start()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_ctrl_c_that_another_thread_takes_does_not_break_off_a_start():
    ready, going, finished = threading.Event(), threading.Event(), []
    other = threading.Thread(target=lambda: (ready.set(), going.wait(60)))
    other.start()  # which is not blocked
    ready.wait(60)

    def start():
        with workers._without_ctrl_c():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            finished.append(True)

    with pytest.raises(KeyboardInterrupt):
        start()
    going.set()
    other.join()
    assert finished == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


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
