"""The version of the package; both packages read it from here."""

__version__ = "0.2.0"
