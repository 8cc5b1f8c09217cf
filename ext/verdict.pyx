"""The Python face of Verdict (an IntEnum)."""
