"""Models: finding them by name, and loading base, adapter, merged and quantized ones."""
