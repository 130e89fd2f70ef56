"""The training of the weights in the package."""
