"""Where hosts are read from: clusto over HTTP or a file, both as the things and containers of model.py.

Another inventory (NetBox, ...) is another reader here, chosen in by_url.py."""
