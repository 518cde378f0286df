"""One command per verb, a few lines each; help lists them in the order of these modules."""

from burnish.cli import running, serving, looking  # isort: skip
from burnish.cli.app import app, main

__all__ = ["app", "looking", "main", "running", "serving"]
