"""Modules that the kinds of data and the pipeline share: settings, checkpoints, threads, plots."""
