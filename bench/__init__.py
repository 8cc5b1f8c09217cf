"""Load, laboratories and comparisons: everything that drives a running bootstorm from outside."""
