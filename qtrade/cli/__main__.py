"""`python -m qtrade.cli`: the command line, where the `qtrade` program is not on the path."""

from qtrade.cli import main

main()
