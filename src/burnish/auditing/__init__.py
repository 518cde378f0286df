"""The audit verb: what is in a data set, and what cleaning would do to it."""
