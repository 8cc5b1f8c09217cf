"""What sends and checks: the native engines, their sockets and processes, and the requests that they send."""
