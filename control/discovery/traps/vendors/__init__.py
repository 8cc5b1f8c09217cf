"""Decoders of traps, a file a vendor; each by the text of the vendor's MIB, and nothing beyond it."""
