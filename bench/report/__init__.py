"""What was measured: outcomes, records with the machine they come from, comparisons, pictures."""
