"""What the four source papers show, made again by one command: ``make papers``, or ``python -m examples.papers``."""
