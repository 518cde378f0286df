"""Runs that are killed, stopped, harmed or out of disk: does each end in a whole run's adapter?

    python benchmarks/crashes.py kills --trials 100      kill -9 at random moments
    python benchmarks/crashes.py corruption              flip, truncate, empty, delete x each file
    python benchmarks/crashes.py disk MOUNTPOINT         a tmpfs with less and less room (as root)
    python benchmarks/crashes.py signals --trials 20     SIGTERM to two processes, 0 to 500 ms apart
                                                         (by torchrun, or quicker with --forks)

A tiny random model trains 60 steps, with dropout, evaluations, checkpoints and pruning; `kills`,
`corruption` and `disk` go through the train stage as `burnish train` does. Processes are forked
from one that has imported everything and computed nothing, so a trial costs seconds. Ends with 1
if any trial fails.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import mmap
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PHASES = ["loading", "data", "step", "evaluation", "checkpoint", "prune"]
ADAPTER = "adapter_model.safetensors"

RECIPE = """\
run_dir: {folder}/run
model: {{name_or_path: {model}}}
data: {{sources: [{{path: {folder}/rows.json}}]}}
prepare: {{max_length: 96, validation_size: 0.2, test_size: 0.1}}
train:
  lora: {{r: 4, lora_dropout: 0.1}}
  max_steps: 60
  per_device_train_batch_size: 4
  gradient_accumulation_steps: 1
  learning_rate: 1.0e-2
  eval_strategy: steps
  eval_steps: 5
  save_strategy: steps
  save_steps: 5
  save_total_limit: 2
  logging_steps: 3
  gradient_checkpointing: false
  bf16: false
"""


def make_run(folder: Path) -> Path:
    """A recipe whose clean and prepare stages are done; returns its path."""
    from tests.conftest import alpaca_rows, byte_tokenizer, tiny_llama

    from burnish.pipeline import run_stage
    from burnish.recipe_file import load_recipe

    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model"
    tokenizer = byte_tokenizer()
    tiny_llama(len(tokenizer)).save_pretrained(model)
    tokenizer.save_pretrained(model)
    (folder / "rows.json").write_text(json.dumps(alpaca_rows(60)))
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(folder=folder, model=model))
    for stage in ("clean", "prepare"):
        run_stage(stage, load_recipe(recipe))
    return recipe


# --- processes -----------------------------------------------------------------------------------


def forked(work: Callable[[], int | None], log: Path) -> int:
    """The process id of a child that does some work, with what it prints in a file."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        code = work() or 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(child: int) -> int:
    """The exit code of a child; minus a signal's number where that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def training(recipe: Path, run: Path, board: Path | None = None) -> Callable[[], int]:
    """The train stage as the command runs it, its phases on a board."""

    def work() -> int:
        from burnish.exits import run_command
        from burnish.pipeline import run_stage
        from burnish.recipe_file import load_recipe

        if board is not None:
            post_phases(board)
        loaded = load_recipe(recipe, [f"run_dir={run}"])
        run_command(lambda: run_stage("train", loaded), debug=False)
        return 0

    return work


def post_phases(board: Path) -> None:
    """Lets training write into a file which phase it is in, and how often it entered each."""
    from burnish.training import checkpoint
    from burnish.training.saving import SavingTrainer
    from burnish.training.trainer import BurnishTrainer

    with board.open("r+b") as file:
        shown = mmap.mmap(file.fileno(), len(PHASES) * 8 + 8)

    def post(owner: object, name: str, phase: str) -> None:
        original, index = getattr(owner, name), PHASES.index(phase)

        def call(*args: object, **kwargs: object) -> object:
            before = shown[0]
            shown[0] = index
            place = slice(8 + 8 * index, 16 + 8 * index)
            count = int.from_bytes(shown[place], "little") + 1
            shown[place] = count.to_bytes(8, "little")
            try:
                return original(*args, **kwargs)
            finally:
                shown[0] = before

        setattr(owner, name, call)

    post(BurnishTrainer, "get_batch_samples", "data")
    post(BurnishTrainer, "training_step", "step")
    post(BurnishTrainer, "evaluate", "evaluation")
    post(SavingTrainer, "_save_checkpoint", "checkpoint")
    post(checkpoint, "prune", "prune")


class Board:
    """What a training process says it is doing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(len(PHASES) * 8 + 8))
        with path.open("r+b") as file:
            self._shown = mmap.mmap(file.fileno(), 0)

    def phase(self) -> str:
        """The phase at this moment."""
        return PHASES[self._shown[0]]

    def entered(self, phase: str) -> int:
        """How often a phase was entered."""
        start = 8 + 8 * PHASES.index(phase)
        return int.from_bytes(self._shown[start : start + 8], "little")


def sha256(run: Path) -> str:
    """The hash of a run's adapter."""
    path = run / "3-train" / "adapter" / ADAPTER
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"


def copied(base: Path, place: Path) -> Path:
    """A copy of a folder in the place of another."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(base, place, symlinks=True)
    return place


def whole_run(folder: Path) -> tuple[Path, str, float]:
    """A prepared recipe, the sha256 of what it trains in one go, and how long that takes."""
    recipe = folder / "recipe.yaml"
    if ended(forked(lambda: make_run(folder) and 0, folder / "prepare.log")):
        sys.exit((folder / "prepare.log").read_text())
    run = copied(folder / "run", folder / "whole")
    start = time.monotonic()
    if ended(forked(training(recipe, run), folder / "whole.log")):
        sys.exit((folder / "whole.log").read_text())
    return recipe, sha256(run), time.monotonic() - start


def resumed(recipe: Path, run: Path, expected: str, log: Path) -> str:
    """Goes on until the run ends; what is wrong with the end, or nothing."""
    code = ended(forked(training(recipe, run), log))
    if code:
        return f"the resume ended with {code}: {log.read_text()[-300:]}"
    return "" if sha256(run) == expected else "another adapter"


def import_all() -> None:
    """Imports what training needs, so that forks need not; nothing may compute before a fork."""
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    import burnish.pipeline
    import burnish.training.metrics
    import burnish.training.train
    import burnish.training.trainer  # noqa: F401


# --- the trials ----------------------------------------------------------------------------------


def kills(folder: Path, trials: int, seed: int) -> list[str]:
    """Kills runs by -9: two fifths at any time, the others within a phase."""
    recipe, expected, seconds = whole_run(folder)
    print(f"whole run: {seconds:.1f} s, adapter {expected[:12]}")
    chance = random.Random(seed)
    hit: Counter[str] = Counter()
    failures = []
    for trial in itertools.count():
        if hit.total() == trials:
            break
        run = copied(folder / "run", folder / "killed")
        phase, code = kill_once(recipe, run, folder, chance, seconds, trial)
        if code != -signal.SIGKILL:
            continue  # it was over before
        hit[phase] += 1
        problem = resumed(recipe, run, expected, folder / "resumed.log")
        print(f"{trial:3} {phase:<10} {code} {problem or 'same adapter'}", flush=True)
        if problem:
            failures.append(f"trial {trial}, killed in {phase}: {problem}")
    show({"killed in": ["runs"]} | {phase: [count] for phase, count in sorted(hit.items())})
    return failures


def kill_once(
    recipe: Path, run: Path, folder: Path, chance: random.Random, seconds: float, trial: int
) -> tuple[str, int]:
    """Where a run was killed, and its exit code."""
    board = Board(folder / "board")
    child = forked(training(recipe, run, board.path), folder / "killed.log")
    within = ([None] * 4 + ["data", "step", "evaluation", "checkpoint", "checkpoint", "prune"])[
        trial % 10
    ]
    if within is None:
        time.sleep(chance.uniform(0, seconds))
    else:
        number = chance.randint(1, 60 if within in ("data", "step") else 12)
        deadline = time.monotonic() + 10 * seconds + 60
        while board.entered(within) < number and time.monotonic() < deadline:
            if is_over(child):
                break
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, {"checkpoint": 0.03, "evaluation": 0.01}.get(within, 0.002)))
    os.kill(child, signal.SIGKILL)
    code = ended(child)
    return board.phase(), code


def corruption(folder: Path) -> list[str]:
    """Harms every file of the newest checkpoint of a killed run in four ways."""
    recipe, expected, _ = whole_run(folder)
    board = Board(folder / "board")
    run = copied(folder / "run", folder / "stopped")
    child = forked(training(recipe, run, board.path), folder / "killed.log")
    while board.entered("step") < 33:
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    ended(child)
    failures, rows = [], {"file": list(HARMS)}
    checkpoints = sorted(
        (run / "3-train" / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name[11:])
    )
    for path in sorted(p for p in checkpoints[-1].rglob("*") if p.is_file()):
        cells = []
        for name, harm in HARMS.items():
            trial = copied(run, folder / "harmed")
            harm(trial / path.relative_to(run))
            problem = resumed(recipe, trial, expected, folder / "resumed.log")
            said = (folder / "resumed.log").read_text()
            if not problem and f"{checkpoints[-1].name} can't be used" not in said:
                problem = "not detected"
            cells.append("found" if not problem else problem)
            if problem:
                failures.append(f"{path.name}, {name}: {problem}")
        rows[path.name] = cells
    show(rows)
    return failures


def flip(path: Path) -> None:
    """Turns one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)


HARMS: dict[str, Callable[[Path], object]] = {
    "flip": flip,
    "truncate": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "delete": lambda path: path.unlink(),
}


def disk(folder: Path, mountpoint: Path) -> list[str]:
    """Trains on a tmpfs with room for less than the run; then makes room and goes on."""
    recipe, expected, _ = whole_run(folder)
    needed = sum(p.stat().st_size for p in (folder / "whole" / "3-train").rglob("*")) // 1024
    failures = []
    ends: Counter[str] = Counter()
    for room in range(0, needed + needed // 4, max(4, needed // 32 // 4 * 4)):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "x", mountpoint], check=True)
        try:
            problem, how = fill_once(recipe, folder, mountpoint, room, expected)
        finally:
            subprocess.run(["umount", mountpoint], check=True)
        ends[how] += 1
        print(f"{room:5} KiB {how:<10} {problem or 'then the same adapter'}", flush=True)
        if problem:
            failures.append(f"{room} KiB of room: {problem}")
    show({"first run": ["trials"]} | {how: [count] for how, count in sorted(ends.items())})
    return failures


def fill_once(
    recipe: Path, folder: Path, mountpoint: Path, room: int, expected: str
) -> tuple[str, str]:
    """What is wrong, and how the run on the small disk ended."""
    from burnish.training.checkpoint import checkpoints, fault

    run = copied(folder / "run", mountpoint / "run")
    filler = mountpoint / "filler"
    usage = os.statvfs(mountpoint)
    filler.write_bytes(bytes(max(0, usage.f_bavail * usage.f_frsize - room * 1024)))
    log = folder / "full.log"
    code = ended(forked(training(recipe, run), log))
    said = log.read_text()
    how = "ended well" if code == 0 else "one error" if said.count("error: ") == 1 else "else"
    filler.unlink()
    if code not in (0, 2) or "Traceback" in said or how == "else":
        return f"ended with {code}: {said[-400:]}", how
    for checkpoint in checkpoints(run / "3-train" / "checkpoints"):
        if fault(checkpoint):
            return f"{checkpoint.name}: {fault(checkpoint)}", how
    return resumed(recipe, run, expected, folder / "resumed.log"), how


def signals(folder: Path, trials: int, seed: int, *, forks: bool) -> list[str]:
    """Sends SIGTERM to the two processes of a run, up to half a second apart."""
    recipe = folder / "recipe.yaml"
    ended(forked(lambda: make_run(folder) and 0, folder / "prepare.log"))
    whole = copied(folder / "run", folder / "whole")
    code, _ = launched(recipe, whole, folder, None, forks=forks)
    expected = sha256(whole)
    print(f"whole run of two processes: exit code {code}, adapter {expected[:12]}")
    chance = random.Random(seed)
    failures, seconds = [], []
    for trial in range(trials):
        run = copied(folder / "run", folder / "stopped")
        plan = (chance.randint(1, 55), chance.uniform(0, 0.5), chance.choice([0, 1]))
        _, took = launched(recipe, run, folder, plan, forks=forks)
        problem = stopped_well(run, folder, took)
        if not problem:
            launched(recipe, run, folder, None, forks=forks)
            problem = "" if sha256(run) == expected else "another adapter after the resume"
        seconds.append(took)
        print(f"{trial:3} {took:5.2f} s {problem or 'same adapter'}", flush=True)
        if problem:
            failures.append(f"trial {trial}, {plan}: {problem}")
    show({"": ["trials", "longest, s"], "SIGTERM": [trials, round(max(seconds), 2)]})
    return failures


def stopped_well(run: Path, folder: Path, took: float) -> str:
    """What is wrong with how two processes have stopped."""
    codes = [(folder / f"code-{rank}").read_text() for rank in range(2)]
    if codes != ["75", "75"]:
        logs = "".join(p.read_text()[-600:] for p in sorted(folder.glob("launch*.log")))
        return f"exit codes {codes}: {logs}"
    if took > 30:
        return f"{took:.1f} s until both were gone"
    left = [p.name for p in (run / "3-train" / "checkpoints").iterdir()]
    steps = {(folder / f"step-{rank}").read_text() for rank in range(2)}
    newest = max((int(name[11:]) for name in left if name.startswith("checkpoint-")), default=0)
    hidden = [name for name in left if name.startswith(".")]
    return "" if steps == {str(newest)} and not hidden else f"steps {steps}, left {left}"


def launched(
    recipe: Path, run: Path, folder: Path, plan: tuple[int, float, int] | None, *, forks: bool
) -> tuple[int, float]:
    """Trains in two processes, perhaps with signals; exit code, and seconds after the first one."""
    for path in folder.glob("*-[01]"):
        path.unlink()
    boards = [Board(folder / f"board-{number}") for number in range(2)]
    start = forked_ranks if forks else torchrun
    processes = start(recipe, run, folder)
    signalled = time.monotonic()
    if plan is not None:
        step, apart, first = plan
        while boards[first].entered("step") < step and not is_over(processes[0]):
            time.sleep(0.001)
        pids = [int((folder / f"pid-{number}").read_text()) for number in range(2)]
        signalled = time.monotonic()
        send(pids[first])
        time.sleep(apart)
        send(pids[1 - first])
    code = max([ended(process) for process in processes], key=abs)
    return code, time.monotonic() - signalled


def is_over(child: int) -> bool:
    """Whether a child has ended; it can be waited for still."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def torchrun(recipe: Path, run: Path, folder: Path) -> list[int]:
    """Two processes of a run, started by torch's own launcher."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [__file__, "rank", str(recipe), str(run), str(folder)]
    with (folder / "launch.log").open("w") as log:
        return [subprocess.Popen(command, stdout=log, stderr=log).pid]


def forked_ranks(recipe: Path, run: Path, folder: Path) -> list[int]:
    """Two processes of a run without a launcher; the environment says what it would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def work(number: int) -> Callable[[], int]:
        def start() -> int:
            os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2"}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            rank(recipe, run, folder)
            return 0

        return start

    return [forked(work(number), folder / f"launch-{number}.log") for number in range(2)]


def send(pid: int) -> None:
    """Sends SIGTERM to a process, if it is still there."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has stopped already, because the other one was asked to


def rank(recipe: Path, run: Path, folder: Path) -> None:
    """One of two processes."""
    from burnish.recipe_file import load_recipe
    from burnish.run_dir import RunDir
    from burnish.training import checkpoint, ranks
    from burnish.training.train import train

    number = int(os.environ["RANK"])
    (folder / f"pid-{number}").write_text(str(os.getpid()))
    post_phases(folder / f"board-{number}")
    loaded = load_recipe(recipe, [f"run_dir={run}"])
    code = 1
    try:
        ranks.join()
        train(loaded.recipe.model, loaded.recipe.train, RunDir(run))
        code = 0
    except SystemExit as stopped:
        code = int(stopped.code or 0)
        newest = checkpoint.checkpoints(RunDir(run).checkpoints)[-1]
        (folder / f"step-{number}").write_text(str(checkpoint.step_of(newest)))
        raise
    finally:
        (folder / f"code-{number}").write_text(str(code))
        ranks.leave()


def show(rows: dict[str, list[object]]) -> None:
    """Prints a table whose first row is its head."""
    width = max(map(len, rows))
    for name, cells in rows.items():
        print(f"{name:<{width}}", *(f"{cell!s:>10}" for cell in cells))


def main() -> None:
    """Runs one kind of trial."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["kills", "corruption", "disk", "signals", "rank"])
    parser.add_argument("places", nargs="*", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--forks", action="store_true", help="signals: without torchrun")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.kind == "rank":
        rank(*asked.places)
        return
    import_all()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="burnish-crashes-") as scratch:
        folder = Path(scratch)
        failures = {
            "kills": lambda: kills(folder, asked.trials, asked.seed),
            "corruption": lambda: corruption(folder),
            "disk": lambda: disk(folder, *asked.places),
            "signals": lambda: signals(folder, asked.trials, asked.seed, forks=asked.forks),
        }[asked.kind]()
    print(*(f"FAILED {failure}" for failure in failures), sep="\n")
    print(f"{asked.kind}: {len(failures)} failed, {time.monotonic() - start:.0f} s in all")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
