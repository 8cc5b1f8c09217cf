"""The command `bootstorm` and all that it shows on a terminal."""
