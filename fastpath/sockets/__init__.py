"""What the supervisor opens and hands on: sockets and their filters, AF_XDP and its program, and BPF itself."""
