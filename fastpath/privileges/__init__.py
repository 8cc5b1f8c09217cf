"""Less power, step by step: what root opens, what is given up after that, what a worker may still ask for."""
