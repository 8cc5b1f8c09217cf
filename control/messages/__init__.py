"""A DHCP message and a capture in Python: taken apart for people, read from tcpdump's files, written as pcapng."""
