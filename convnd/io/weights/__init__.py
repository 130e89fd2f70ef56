"""Files of weights that `torch.save` wrote, decoded in a child process."""
