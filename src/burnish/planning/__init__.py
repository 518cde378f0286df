"""What a recipe needs before it is run: memory by part, time, disk, and what would make it fit."""
