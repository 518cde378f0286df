"""One rank: `python -m burnish.training.launch.rank JOB`, as the engines start it.

It runs the stage function itself. The first rank speaks and writes for all; every rank leaves a
note of how it has ended, and the launching process makes one message of them.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path

from burnish import progress
from burnish.errors import BurnishError, first_line
from burnish.exits import INTERRUPTED, refusal
from burnish.run_dir import RunDir
from burnish.terminal import quiet_libraries
from burnish.training.launch.engine import end_with_parent
from burnish.training.launch.job import Job, leave_note, parts_of, read_job


def main(path: Path) -> None:
    """Trains as the rank that the environment names, and ends the process."""
    end_with_parent()
    let_first_speak()
    sys.exit(run_rank(read_job(path)))


def let_first_speak() -> None:
    """Silences this process, unless it is the first rank; of warnings that shows some, too."""
    if _number():
        progress.stderr.quiet = True
        logging.disable(logging.WARNING)
    quiet_libraries()
    if _number():
        warnings.simplefilter("ignore")


def _number() -> int:
    return int(os.environ.get("RANK", 0))


def run_rank(job: Job) -> int:
    """Trains as the rank that the environment names; returns the exit code.

    What is no error that a user can meet is noted, and raised.
    """
    from burnish.training import ranks
    from burnish.training.train import train

    number = _number()
    os.chdir(job.working_directory)
    try:
        ranks.join()
        report = train(job.model, job.section, RunDir(job.run)).model_dump(mode="json")
        ranks.leave()
    except BurnishError as error:
        leave_note(job.folder, number, error=parts_of(error))
        return error.exit_code
    except OSError as error:
        leave_note(job.folder, number, error=parts_of(refusal(error)))
        return BurnishError.exit_code
    except KeyboardInterrupt:
        leave_note(job.folder, number, exit_code=INTERRUPTED)
        return INTERRUPTED
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
        leave_note(job.folder, number, exit_code=code)
        return code
    except RuntimeError as error:
        if ranks.is_lost_connection(error):
            leave_note(job.folder, number, is_lost=True, said=first_line(error))
            return 1
        leave_note(job.folder, number, error=_bug(error))
        raise
    except BaseException as error:
        leave_note(job.folder, number, error=_bug(error))
        raise
    leave_note(job.folder, number, report=report)
    return 0


def _bug(error: BaseException) -> tuple[str, str, str]:
    return "train", f"{type(error).__name__}: {first_line(error)}", "Its trace stands above."


if __name__ == "__main__":
    main(Path(sys.argv[1]))
