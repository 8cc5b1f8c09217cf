"""Configurations of other DHCP servers -> a host file of ours, and what was not carried over, each with its reason.

A reader of a format (`dhcpd/`, `dnsmasq/`, `kea/`, `ethers.py`) makes a Site of files (`site.py`); `build.py` makes
rows of it, `writing.py` text of those.  Readers ask the old configuration as each kind of client (`kinds.py`) what it
would be told: that is how conditions of any form become client classes.
"""
