"""The trap receiver, a process of its own: from a datagram of SNMP to MAC addresses, and whom it believes."""
