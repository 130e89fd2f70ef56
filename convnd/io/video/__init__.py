"""Videos, read and written frame by frame: files and folders of numbered pictures."""
