"""ClientClass for Python; see classify.pxd."""
