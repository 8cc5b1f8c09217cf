"""New servers: switch traps, who sent them and what they say, and what becomes of it."""
