"""The command `burnish`, which is `python -m burnish`, too."""

from __future__ import annotations

from burnish.exits import interruptible


def main() -> None:
    """Loads the command line and runs it; Ctrl-C while it loads is one line, too."""
    with interruptible():
        from burnish.cli import main as run
    run()


if __name__ == "__main__":
    main()
