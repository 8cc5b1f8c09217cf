"""The other DHCP servers that ours is compared with: each is one small module that knows how to configure and start it.

table.py has the hosts that all of them get, peer.py what a module has to say, answers.py how replies are checked.
"""
