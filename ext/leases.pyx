"""The Python face of LeaseState (an IntEnum)."""
