"""The doors of the control process: the control socket with its commands and rights, and `metrics.bind`."""
