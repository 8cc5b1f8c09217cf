"""kea-dhcp4.conf of Kea 1.x to 3.x: its Administrator Reference Manual."""
