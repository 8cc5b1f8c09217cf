"""Inventory + configuration -> the rows of a table, each with its options or with the reason why it has none.

Pure: no socket, no file, no clock but compile.py's stopwatch; planner/ does the work around it."""
