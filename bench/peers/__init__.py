"""Rivals of the benches: how each is configured and started, with the same hosts as ours."""
