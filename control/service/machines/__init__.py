"""What is known of each machine: how far it is, what it says of itself, its last datagrams."""
