"""The supervisor process: keeps all descriptors, starts, watches and replaces the others, upgrades in place."""
