"""Arrays of any number of axes, in any unit."""
