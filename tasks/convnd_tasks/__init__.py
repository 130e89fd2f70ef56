"""The application on top of `convnd`: commands, the pipeline, kinds of data and samples."""
