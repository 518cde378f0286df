"""Adapter -> a plain merged model -> a small quantized one."""
