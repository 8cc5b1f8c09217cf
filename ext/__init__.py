"""Compiled code of bootstorm: the packet path and the table it reads.  No process, no logging, no configuration."""
