import pytest

from burnish import progress
from burnish.progress import say, silence, track, warn


def test_lines_go_to_stderr_as_they_are(capsys):
    say("[bold]a[/bold] {x} 100% " + "long " * 40 + ".")
    warn(r"C:\[red]x[/red] [0]")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "[bold]a[/bold] {x} 100% " + "long " * 40 + ".\n" + r"warning: C:\[red]x[/red] [0]" + "\n"
    )


def test_tracked_items_come_through_unchanged_and_lazily():
    items = iter(range(5))
    tracked = track(items, "clean", total=None, unit="rows")
    assert next(tracked) == 0
    assert next(items) == 1
    assert list(tracked) == [2, 3, 4]


def test_a_log_gets_a_line_now_and_then(monkeypatch, capsys):
    ticks = iter(range(0, 100, 6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(ticks)))
    assert list(track("abcd", "clean", total=None, unit="rows")) == list("abcd")
    # Started at 0; items end at 6, 12, 18 and 24; lines come ten seconds apart.
    assert capsys.readouterr().err == "clean: 2 rows, 0.2 rows/s\nclean: 4 rows, 0.2 rows/s\n"


@pytest.mark.parametrize(
    ("count", "total", "line"),
    [
        (2000, None, "clean: 2,000 rows, 200.0 rows/s"),
        (2000, 5000, "clean: 2,000 of 5,000 rows, 200.0 rows/s, 15 s left"),
        (20, 10, "clean: 20 of 10 rows, 2.0 rows/s, 0 s left"),
    ],
)
def test_a_line_tells_count_rate_and_time_left(count, total, line):
    assert progress._progress_line("clean", count, total, "rows", 10.0) == line


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    from rich.console import Console

    monkeypatch.setattr(progress, "stderr", Console(stderr=True, force_terminal=True, width=80))
    assert list(track("abc", "clean", total=3, unit="rows")) == list("abc")
    out, err = capsys.readouterr()
    assert out == ""
    assert "clean" in err


def test_a_bar_within_a_bar_is_shown_beside_it(monkeypatch, capsys):
    """As an evaluation's is within the training's."""
    from rich.console import Console

    monkeypatch.setattr(progress, "stderr", Console(stderr=True, force_terminal=True, width=80))
    rows = [
        (outer, inner)
        for outer in track("ab", "train", total=2, unit="steps")
        for inner in track("cd", "validate", total=2, unit="rows")
    ]
    assert rows == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]
    said = capsys.readouterr().err
    assert "train" in said
    assert "validate" in said


def test_in_silence_nothing_is_said_and_afterwards_it_is(capsys):
    with silence():
        warn("a")
    say("b")
    assert capsys.readouterr().err == "b\n"
