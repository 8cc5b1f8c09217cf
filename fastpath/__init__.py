"""Of bootstorm, the processes around the packet path: supervisor and workers."""
