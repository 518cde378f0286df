"""The parity certificate: the prompts of a run as token ids, and checks of all that comes later."""
