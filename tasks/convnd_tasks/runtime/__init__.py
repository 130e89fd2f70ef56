"""What the kinds of data and the pipeline both use: settings, checkpoints, threads, plots."""
