"""dnsmasq.conf, dhcp-hostsfile, dhcp-optsfile, ethers: dnsmasq(8)."""
