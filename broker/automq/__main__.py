"""`python -m automq`: the command line."""

from automq.cli import main

if __name__ == "__main__":
    main()
