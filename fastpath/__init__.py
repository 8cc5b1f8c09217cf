"""The processes around the packet path: supervisor and workers."""
