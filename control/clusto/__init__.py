"""clusto over HTTP: our client, our reader, our own server."""
