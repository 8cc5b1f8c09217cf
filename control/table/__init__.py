"""A sealed table as control's side has it: its rows in words, what differs from the one before, its file on disk."""
