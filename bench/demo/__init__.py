"""Demonstrations that a person reads: what happens, in order, with the time of each step."""
