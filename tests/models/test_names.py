"""Models by name: folders, the Hugging Face hub (a stand-in on 127.0.0.1), ModelScope."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from burnish.errors import MissingExtraError, ModelError
from burnish.models import embedded, names
from burnish.models.names import find_model, fingerprint, read_config
from burnish.recipe import ModelSection

SHA = "a" * 40


def section(name, **more):
    return ModelSection(name_or_path=str(name), **more)


# --- folders ---------------------------------------------------------------------------------


def test_a_folder_is_taken_as_it_is(tiny_model, monkeypatch):
    assert find_model(section(tiny_model)) == tiny_model
    monkeypatch.chdir(tiny_model.parent)
    assert find_model(section("model")) == tiny_model
    assert find_model(section("./model")) == tiny_model


def test_a_home_folder_is_written_with_a_tilde(tiny_model, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_model.parent))
    assert find_model(section("~/model")) == tiny_model


@pytest.mark.parametrize(
    "name", ["no-such-folder", "/no/such/folder", "./a/b", "a/b/c", "mo del/x"]
)
def test_a_missing_folder_says_what_a_name_can_be(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="there is no such folder") as caught:
        find_model(section(name))
    assert embedded.NAME in caught.value.remedy
    assert "modelscope:" in caught.value.remedy


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        find_model(section(tmp_path))


def test_a_folder_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="there are no weights"):
        find_model(section(tmp_path))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_pickled_weights_are_refused_unless_the_recipe_allows_them(tmp_path, name):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelError, match="pickle files, and loading those can run code") as caught:
        find_model(section(tmp_path))
    assert "model.allow_pickle: true" in caught.value.remedy
    assert find_model(section(tmp_path, allow_pickle=True)) == tmp_path


def test_the_fingerprint_changes_with_what_the_model_is_made_of(tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    seen = {fingerprint(folder)}
    assert fingerprint(folder) in seen
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    seen.add(fingerprint(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-5}))
    seen.add(fingerprint(folder))
    (folder / "model.safetensors").write_bytes(b"")
    seen.add(fingerprint(folder))
    (folder / "pytorch_model.bin").write_bytes(b"")
    seen.add(fingerprint(folder))
    assert len(seen) == 5


def test_the_config_is_read(tiny_model):
    assert read_config(tiny_model)["model_type"] == "llama"


# --- the Hugging Face hub --------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download takes."""

    files: dict[str, bytes]
    asked: list[str]

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if "owner/missing" in path:
            return self.give(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
        if "owner/gated" in path:
            return self.give(403, b"{}", {"X-Error-Code": "GatedRepo"}, body)
        if "/revision/v9" in path:
            return self.give(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
        if "owner/broken" in path:
            return self.give(500, b"{}", {}, body)
        if "/resolve/" in path:
            content = self.files[path.rpartition("/")[2]]
            etag = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": SHA}
            return self.give(200, content, etag, body)
        entries = [
            {"type": "file", "path": n, "rfilename": n, "size": len(c), "oid": SHA}
            for n, c in self.files.items()
        ]
        listing = {"id": "owner/good", "sha": SHA, "siblings": entries}
        answer = entries if "/tree/" in path else listing
        return self.give(200, json.dumps(answer).encode(), {}, body)

    def give(self, status, content, headers, body):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tiny_model, tmp_path, monkeypatch):
    """A hub on this machine that holds owner/good; returns its handler class."""
    import huggingface_hub.constants as constants

    handler = type("OneHub", (Hub,), {"asked": [], "files": {}})
    handler.files = {p.name: p.read_bytes() for p in tiny_model.iterdir()}
    handler.files |= {"pytorch_model.bin": b"pickle", "README.md": b"read me"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_at(monkeypatch, constants, f"http://127.0.0.1:{server.server_port}", tmp_path)
    yield handler
    server.shutdown()
    server.server_close()


def point_at(monkeypatch, constants, endpoint, cache):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_model_is_fetched_from_the_hub_once(hub, capfd):
    folder = find_model(section("owner/good"))
    assert "fetching owner/good from the Hugging Face hub" in capfd.readouterr().err
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert not (folder / "pytorch_model.bin").exists()
    assert not (folder / "README.md").exists()
    hub.asked.clear()
    assert find_model(section("owner/good")) == folder
    assert hub.asked == []


def test_of_a_model_whose_tokenizer_is_asked_for_no_weights_are_fetched(hub):
    folder = find_model(section("owner/good"), weights=False)
    assert (folder / "config.json").is_file()
    assert (folder / "tokenizer.json").is_file()
    assert not any(folder.glob("*.safetensors"))
    assert not any(path.endswith((".safetensors", ".bin")) for path in hub.asked)
    hub.asked.clear()
    assert find_model(section("owner/good"), weights=False) == folder
    assert hub.asked == []
    before = fingerprint(folder, weights=False)
    assert find_model(section("owner/good")) == folder  # now the weights, too
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert fingerprint(folder, weights=False) == before != fingerprint(folder)


def test_pickled_weights_are_fetched_only_where_allowed(hub):
    del hub.files["model.safetensors"]
    with pytest.raises(ModelError, match=r"there are no weights|pickle"):
        find_model(section("owner/good"))
    folder = find_model(section("owner/good", allow_pickle=True))
    assert (folder / "pytorch_model.bin").read_bytes() == b"pickle"


def test_an_interrupted_download_is_taken_up_again(hub):
    folder = find_model(section("owner/good"))
    (folder / "tokenizer.json").unlink()
    assert (find_model(section("owner/good")) / "tokenizer.json").is_file()


def test_a_model_that_is_not_on_the_hub_says_so(hub):
    with pytest.raises(
        ModelError, match="owner/missing: the Hugging Face hub has no such"
    ) as caught:
        find_model(section("owner/missing"))
    assert "spelling" in caught.value.remedy


def test_a_gated_model_explains_how_to_get_in(hub):
    with pytest.raises(ModelError, match="this model is gated") as caught:
        find_model(section("owner/gated"))
    assert "https://huggingface.co/owner/gated" in caught.value.remedy
    assert "hf auth login" in caught.value.remedy


def test_a_revision_that_does_not_exist_is_named(hub):
    with pytest.raises(ModelError, match="no revision v9"):
        find_model(section("owner/good", revision="v9"))


def test_a_hub_that_can_not_be_reached_points_at_mirrors(monkeypatch, tmp_path):
    import huggingface_hub.constants as constants

    point_at(monkeypatch, constants, "http://127.0.0.1:9", tmp_path)
    with pytest.raises(ModelError, match="can't be reached") as caught:
        find_model(section("owner/good"))
    assert "HF_ENDPOINT" in caught.value.remedy
    assert "modelscope:owner/good" in caught.value.remedy


# --- ModelScope ------------------------------------------------------------------------------


def test_modelscope_gives_its_folder_from_the_cache_or_the_net(tiny_model, monkeypatch):
    modelscope = pytest.importorskip("modelscope")
    calls = []

    def snapshot(name, *, revision, allow_patterns, local_files_only):
        calls.append((name, revision, "*.bin" in allow_patterns, local_files_only))
        if local_files_only:
            raise ValueError("not in the cache")
        return str(tiny_model)

    monkeypatch.setattr(modelscope, "snapshot_download", snapshot)
    assert find_model(section("modelscope:owner/name", revision="v1")) == tiny_model
    assert calls == [("owner/name", "v1", False, True), ("owner/name", "v1", False, False)]


def test_modelscope_is_asked_for_weights_where_only_the_tokenizer_is_in_its_cache(
    tiny_model, tmp_path, monkeypatch
):
    shutil.copy(tiny_model / "config.json", tmp_path)
    asked = []

    def snapshot(name, *, revision, allow_patterns, local_files_only):
        asked.append(("*.safetensors" in allow_patterns, local_files_only))
        return str(tmp_path if local_files_only else tiny_model)

    package = types.SimpleNamespace(snapshot_download=snapshot)
    monkeypatch.setitem(sys.modules, "modelscope", package)
    assert find_model(section("modelscope:owner/name"), weights=False) == tmp_path
    assert find_model(section("modelscope:owner/name")) == tiny_model
    assert asked == [(False, True), (True, True), (True, False)]


def test_a_model_that_modelscope_does_not_give_is_an_error_with_its_words(monkeypatch):
    modelscope = pytest.importorskip("modelscope")

    def snapshot(name, **_):
        raise RuntimeError("404: owner/name\nlong trace")

    monkeypatch.setattr(modelscope, "snapshot_download", snapshot)
    with pytest.raises(ModelError, match=r"did not give this model \(404: owner/name\)") as caught:
        find_model(section("modelscope:owner/name"))
    assert caught.value.where == "modelscope:owner/name"


def test_without_the_package_of_modelscope_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(MissingExtraError, match=r"burnish\[modelscope\]"):
        find_model(section("modelscope:owner/name"))


def test_the_embedded_model_is_found_by_its_name(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded, "fetch", lambda: tmp_path)
    assert find_model(ModelSection()) == tmp_path
    assert names.MODELSCOPE == "modelscope:"


def test_a_plan_needs_no_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    section = ModelSection(name_or_path=str(tmp_path))
    assert find_model(section, weights=False) == tmp_path
    with pytest.raises(ModelError, match="no weights"):
        find_model(section)
