"""Training in several processes, which existing engines start: torchrun, accelerate, Ray."""
