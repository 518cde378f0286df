"""Prepared examples looked over: which tokens carry loss, and what is wrong with them."""
