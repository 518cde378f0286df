"""`burnish sweep`: the same run with other settings, one run folder each, and a table of them."""
