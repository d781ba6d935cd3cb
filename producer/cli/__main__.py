"""`python -m producer.cli`: the command line in a checkout that is not installed."""

from . import main

main()
