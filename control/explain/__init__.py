"""What is answered and why, in words: `bootstorm explain`, and the sentences of warnings."""
