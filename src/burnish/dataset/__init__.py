"""Conversations -> examples: splitting, rendering, and showing what carries loss."""
