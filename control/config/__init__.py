"""services.conf: its keys and their checks, what a reload may change, and the rules that tell a BMC from its host."""
