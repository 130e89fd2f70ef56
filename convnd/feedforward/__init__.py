"""Networks that stylise in one forward pass, without optimisation."""
