"""Commands that look: what they show."""

from __future__ import annotations

import json

from tests.cli.commands import burnish, fails


def test_audit_labels_reports_a_run_and_ends_with_2_where_somebody_elses_set_has_errors(
    tiny, tmp_path, tiny_model
):
    from datasets import Dataset

    burnish("clean", tiny, folder=tmp_path)
    assert "prepare has not been run here yet" in fails("audit-labels", tiny, folder=tmp_path)
    burnish("prepare", tiny, folder=tmp_path)
    page = tmp_path / "labels.html"
    done = burnish("audit-labels", tiny, "--html", page, "--json", folder=tmp_path)
    report = json.loads(done.stdout)
    assert (done.returncode, report["num_errors"], report["num_answers"]) == (0, 0, 40)
    assert page.is_file()
    assert burnish("audit-labels", "runs/recipe", folder=tmp_path).returncode == 0

    rows = [{"input_ids": [1, 40, 2], "labels": [-100, 40, -100]}] * 3
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "set"))
    assert "--model NAME" in fails("audit-labels", "set", folder=tmp_path)
    done = burnish("audit-labels", "set", "--model", tiny_model, "--json", folder=tmp_path)
    assert done.returncode == 2
    assert json.loads(done.stdout)["findings"][0]["name"] == "masked_stop_token"
    assert "error: set: masked_stop_token in 3 rows, first row 1" in done.stderr


def test_preview_shows_tokens_apart_and_as_json_and_as_a_page(tiny, tmp_path):
    burnish("clean", tiny, folder=tmp_path)
    done = burnish("preview", tiny, "--row", 2, folder=tmp_path)
    assert "⟦A·n·s·w·e·r· ·7·.·<|im_end|>⟧" in done.stdout
    asked = ["preview", tiny, "--longest", "--count", 2, "--json"]
    examples = json.loads(burnish(*asked, folder=tmp_path).stdout)["examples"]
    assert [example["why"] for example in examples] == ["longest", "longest"]
    assert len(examples[0]["input_ids"]) == examples[0]["num_tokens"]
    done = burnish("preview", tiny, "--random", "--html", "x.html", folder=tmp_path)
    assert "⟦" not in done.stdout
    assert "<h1>Preview</h1>" in (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "more than one way" in fails("preview", tiny, "--row", 1, "--longest", folder=tmp_path)


def test_watch_draws_a_picture_of_a_recipes_run_and_of_a_folder(tiny, tmp_path):
    done = burnish("watch", tiny, "--once", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "recipe: no line of metrics yet" in done.stdout
    folder = tmp_path / "runs" / "recipe" / "3-train"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"step": 7, "train/loss": 1.25}\n{"step": 8, "tra')
    for target in (tiny, "runs/recipe"):
        shown = burnish("watch", target, "--once", folder=tmp_path).stdout
        assert "recipe: step 7," in shown
        assert "train/loss 1.25" in shown


def test_a_latency_without_a_bandwidth_is_refused(tiny, tmp_path):
    told = fails("plan", tiny, "--latency", "5", folder=tmp_path)
    assert "it says nothing without --bandwidth" in told
