"""dhcpd.conf of ISC dhcpd 4: dhcpd.conf(5), dhcp-options(5), dhcp-eval(5)."""
