"""How a default was chosen, and searches for faults."""
