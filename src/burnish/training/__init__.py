"""Examples -> adapter: LoRA through PEFT on a small subclass of transformers.Trainer."""
