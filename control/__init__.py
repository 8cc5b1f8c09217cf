"""The slow side: inventory, plan, console, warnings."""
