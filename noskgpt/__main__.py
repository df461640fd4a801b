"""Run the command line as ``python -m noskgpt``."""

from noskgpt.cli import main

if __name__ == "__main__":
    main()
