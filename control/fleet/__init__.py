"""Many responders, one truth: what they tell each other, and what each decides of it.  Pure; no engine is imported.

Every decision is a function of (state, message or tick, now) that returns the next state and actions; a process carries
the actions out and brings the answers back.  now is CLOCK_BOOTTIME in milliseconds.  docs/fleet.md has the shape.
"""
