"""Measurements of convnd; each script says in its docstring how to run it."""
