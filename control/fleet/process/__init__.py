"""The process of a fleet's member: carries the decisions out over the message engine, and keeps what they need on disk.

A child of control.  It alone talks to the engine, and holds no truth: whatever becomes of it, the workers serve on.
"""
