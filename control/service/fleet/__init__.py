"""Control's part of a fleet: its process, the tables that come from it, and the planner of who leads."""
