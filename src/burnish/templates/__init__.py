"""What rendering needs to know of chat templates: control tokens in texts, and calls of tools."""
