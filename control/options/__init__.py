"""DHCP options as bytes: which there are, how their values are written, sub-options, and the encoding of all."""
