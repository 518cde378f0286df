"""What a model can do: held-out loss, answers side by side, benchmarks."""
