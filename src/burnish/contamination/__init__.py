"""Items of benchmarks and held-out rows among the training rows."""
