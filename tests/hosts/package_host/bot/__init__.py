"""A foreign host as a package `bot`: loads the extension before it logs in."""

from .host import create

__all__ = ["create"]
