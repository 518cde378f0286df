"""The fast path of training for Llama-like models: a layer's forward and backward, by hand."""
