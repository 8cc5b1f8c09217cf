"""The slow side of bootstorm: inventory, plan, console, warnings."""
