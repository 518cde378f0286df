"""Raw files -> conversations: reading, repairing, and keeping or dropping, with a reason each."""
