"""Laboratories: private networks with real clients, machines that boot, and a whole site; the tests use them too."""
