"""``convnd view``: a local page that starts jobs, shows them while they run, and changes them."""
