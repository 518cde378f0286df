"""burnish: from a file of examples to a served language model."""

__version__ = "0.1.0"
