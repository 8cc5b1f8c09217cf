"""Machines that get power and boot: storms, and a site of racks in which some of them hang."""
