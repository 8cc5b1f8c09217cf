"""The planner process: reads the inventory, plans, builds and saves tables; jobs.py is what control and it say.

process.py is its loop, child.py control's end of it."""
