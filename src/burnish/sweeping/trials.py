"""One trial of a sweep: its settings, its run folder, and the process that it trains in.

It begins with hard links to what clean and prepare made for the run, so that only what a setting
changes is done again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.exits import GO_ON_LATER, wait_for
from burnish.run_dir import FOLDERS, MANIFEST_NAME, RunDir, digest, write_json
from burnish.settings import all_settings


@dataclass(frozen=True, slots=True)
class Trial:
    """A choice of settings, and the folder of its run."""

    settings: Mapping[str, Any]
    folder: Path

    @property
    def overrides(self) -> list[str]:
        """The settings as `--set` takes them."""
        return [option(*each) for each in [*self.settings.items(), ("run_dir", str(self.folder))]]


def option(key: str, value: Any) -> str:
    """A setting as `--set` takes it. Escapes of JSON that YAML reads otherwise are left out."""
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def folder_name(settings: Mapping[str, Any]) -> str:
    """A folder name that a person can read, and that no other settings have."""
    text = ",".join(f"{_short(key)}={value}" for key, value in settings.items())
    safe = re.sub(r"[^\w.,=+-]+", "_", text)
    return safe if safe == text and len(safe) < 80 else f"{safe[:60]}-{digest(dict(settings))[:8]}"


def _short(key: str) -> str:
    """The last part of a setting's name, where no other setting has it."""
    last = key.rpartition(".")[2]
    namesakes = [name for name in all_settings() if name.rpartition(".")[2] == last]
    return last if namesakes == [key] else key


def link_stages(run: RunDir, folder: Path) -> None:
    """Gives a new trial what clean and prepare made for the run, as hard links or copies."""
    if (folder / MANIFEST_NAME).is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    manifest = run.read_manifest()
    kept = {name: manifest["stages"][name] for name in ("clean", "prepare")}
    for name in kept:
        shutil.copytree(run.folder(name), folder / FOLDERS[name], copy_function=_link)
    write_json(folder / MANIFEST_NAME, {**manifest, "stages": kept})


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
    return target


def in_own_process(command: Sequence[str]) -> tuple[int, str, str]:
    """Runs a command to its end: its exit code, what it printed, and the error that it told.

    Its stderr goes on to this one's. Ctrl-C reaches this process alone, which hands it on once.
    """
    told = [""]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        ) as process,
    ):
        reader = threading.Thread(target=_hand_on, args=(process.stderr, told), daemon=True)
        reader.start()
        try:
            wait_for(process)
        except (KeyboardInterrupt, SystemExit):
            if process.returncode == GO_ON_LATER:
                raise SystemExit(GO_ON_LATER) from None
            raise
        finally:
            reader.join(10)  # a process that a tracker has started may keep the pipe open
        out.seek(0)
        return process.returncode, out.read(), told[0]


def _hand_on(stream: Iterable[str], told: list[str]) -> None:
    """Writes lines to stderr; the error that they tell at their end is left in `told`."""
    for line in stream:
        sys.stderr.write(line)
        if line.startswith("error: "):
            told[0] = line.removeprefix("error: ")
        elif told[0]:
            told[0] += line
