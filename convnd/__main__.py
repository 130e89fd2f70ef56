"""``python -m convnd``."""

from convnd.cli import main

if __name__ == "__main__":
    main()
