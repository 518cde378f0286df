"""Where chunks are cleaned: here, in processes of this machine, or on a Ray cluster.

All three give the same chunks in the same order. Few chunks are in flight at a time, so that a
data set may be larger than memory.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, TypeVar

from burnish.cleaning.row import Chunk, CleanedChunk, RowSettings, clean_chunk
from burnish.errors import BurnishError, MissingExtraError, RunError
from burnish.machine import usable_cores
from burnish.recipe import CleanSection

NUM_INLINE = 3
"""Up to so many chunks are cleaned here: starting processes would take longer."""

RAY_WINDOW = 64
"""Chunks that are given to Ray at a time."""

Item = TypeVar("Item")
Result = TypeVar("Result")

Engine = Callable[[Iterable[Chunk], RowSettings, int], Iterator[CleanedChunk]]


def clean_chunks(
    chunks: Iterable[Chunk], settings: RowSettings, section: CleanSection
) -> Iterator[CleanedChunk]:
    """The chunks after cleaning, in their order.

    Raises:
        MissingExtraError: the engine is Ray, which is not installed.
        RunError: a process ended before its work was done.
    """
    return ENGINES[section.engine](chunks, settings, section.num_workers or usable_cores())


def _local(
    chunks: Iterable[Chunk], settings: RowSettings, num_workers: int
) -> Iterator[CleanedChunk]:
    chunks = iter(chunks)
    first = list(itertools.islice(chunks, NUM_INLINE + 1))
    if len(first) <= NUM_INLINE or num_workers == 1:
        for chunk in itertools.chain(first, chunks):
            yield clean_chunk(chunk, settings)
    else:
        work = partial(clean_chunk, settings=settings)
        yield from _in_processes(itertools.chain(first, chunks), work, num_workers)


def _in_processes(
    items: Iterable[Item], work: Callable[[Item], Result], num_workers: int
) -> Iterator[Result]:
    """The result of each item, in order, by processes that are ended when the work is given up.

    Each process has a pipe and a thread here of its own. They share no queue and no lock, which a
    process that ends in the middle of a message would leave shut for all.
    """
    workers: SimpleQueue[_Worker] = SimpleQueue()
    started: list[_Worker] = []

    def done(item: Item) -> Result:
        worker = workers.get()
        try:
            result: Result = worker.result(item)
        finally:
            workers.put(worker)
        return result

    threads = ThreadPoolExecutor(num_workers, "cleaning")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            if len(started) < num_workers:
                with _without_ctrl_c():
                    started.append(_Worker(work))
                workers.put(started[-1])
            waiting.append(threads.submit(done, item))
            if len(waiting) > 2 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in started:
            worker.end()  # what it is still at, if anything, is of no use
        threads.shutdown()
        for worker in started:
            worker.link.close()


class _Worker:
    """A process that answers every item with the result of `work`, or the error that it met."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        # Started afresh, not forked: a fork of a process with threads can stand still forever.
        context = get_context("spawn")
        self.link, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(theirs, work), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is the end of the pipe

    def result(self, item: Any) -> Any:
        try:
            self.link.send(item)
            succeeded, outcome = self.link.recv()
        except (EOFError, ConnectionError):
            raise RunError(
                "clean",
                "a worker process ended before its work was done, perhaps for want of memory.",
                "Run it again with --set clean.num_workers=1; what is finished is kept.",
            ) from None
        if succeeded:
            return outcome
        raise outcome

    def end(self) -> None:
        self._process.terminate()
        self._process.join()


def _answer(link: Connection, work: Callable[[Any], Any]) -> None:
    """What a worker process does, until the other end of its pipe is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            item = link.recv()
            try:
                answer = (True, work(item))
            except Exception as error:
                error.add_note("".join(traceback.format_tb(error.__traceback__)))
                answer = (False, error)
            link.send(answer)


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """A process that is started in the block never gets Ctrl-C, even while it is still loading.

    Ctrl-C is for the process that a person started; that one ends its workers. Here it comes
    when the block ends: blocked for what is started, and put off here, where another thread may
    take the signal and Python then hands it to this one all the same.
    """
    if os.name == "nt" or threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # started with the first process, it would let Ctrl-C through
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def _ray(
    chunks: Iterable[Chunk], settings: RowSettings, num_workers: int
) -> Iterator[CleanedChunk]:
    # Both must be set before the package is loaded: it reports its use to its makers otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("ray", "ray") from None
    started_here = not ray.is_initialized()
    if started_here:
        _start_ray(ray, num_workers)
    try:
        shared = ray.put(settings)
        chunks = iter(chunks)
        while window := list(itertools.islice(chunks, RAY_WINDOW)):
            rows = [{"number": chunk.number, "chunk": pickle.dumps(chunk)} for chunk in window]
            cleaned = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                partial(_clean_in_ray, shared=shared)
            )
            done = {row["number"]: row["cleaned"] for row in cleaned.iter_rows()}
            for number in sorted(done):
                yield _cleaned(pickle.loads(done[number]))
    finally:
        if started_here:
            ray.shutdown()


def _start_ray(ray: Any, num_workers: int) -> None:
    """Joins the cluster that RAY_ADDRESS names, or starts Ray on this machine."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
    else:
        ray.init(num_cpus=num_workers, include_dashboard=False, log_to_driver=False)
    if on_sigterm and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts its own there


def _clean_in_ray(row: dict[str, Any], shared: Any) -> dict[str, Any]:
    """A chunk after cleaning, or the error that it met: Ray would wrap it and lose its parts."""
    import ray

    cleaned: CleanedChunk | BurnishError
    try:
        cleaned = clean_chunk(pickle.loads(row["chunk"]), ray.get(shared))
    except BurnishError as error:
        cleaned = error
    return {"number": row["number"], "cleaned": pickle.dumps(cleaned)}


def _cleaned(outcome: CleanedChunk | BurnishError) -> CleanedChunk:
    if isinstance(outcome, BurnishError):
        raise outcome
    return outcome


ENGINES: dict[str, Engine] = {"local": _local, "ray": _ray}
"""Where chunks are cleaned, by the name of the engine."""
