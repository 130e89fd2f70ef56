"""Arrays of any number of axes, in units of their own."""
