"""``python -m jaxland``."""

from jaxland.cli import main

main()
