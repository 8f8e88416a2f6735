"""`python -m raybt` is `raybt`."""

from raybt.cli import main

main()
