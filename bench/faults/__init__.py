"""What can happen to a service, how it is done from outside, and whether every answer was right meanwhile."""
