"""The observer process, where dhcp.mode is observe: what we would have said, beside what the present server says.

link.py is what control and it say to each other."""
