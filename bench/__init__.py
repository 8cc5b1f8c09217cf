"""Load, laboratories and comparisons: everything that drives a running server from outside."""
