"""The pins of what `make` and CI install, and a check of them."""
