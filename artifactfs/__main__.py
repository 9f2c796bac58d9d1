"""`python -m artifactfs` is the program `artifactfs`."""

from .cli.main import main

if __name__ == "__main__":
    main()
