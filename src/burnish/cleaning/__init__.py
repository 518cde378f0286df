"""Records -> conversations: repairing, judging and comparing them, with a ledger of every row."""
