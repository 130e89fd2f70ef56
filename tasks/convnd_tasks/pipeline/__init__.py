"""From a typed command to a written result, the same for every kind of data."""
