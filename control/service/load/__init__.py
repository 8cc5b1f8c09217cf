"""What requests meet before a worker has them, and how long they take: lost, waiting, answered."""
