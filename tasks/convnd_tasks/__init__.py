"""What people do with convnd: each module here is one task, mounted by an entry point."""
