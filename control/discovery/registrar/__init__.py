"""The registrar, a process of its own: one machine's way into the inventory, step by step.

child.py is the coordinator's end of it."""
