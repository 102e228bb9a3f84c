"""LanceDB, imported without a word: what it and its dependencies warn of is for their own developers."""

import os
import warnings

os.environ.setdefault("LANCE_LOG", "error")  # read once, when it is imported
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import lancedb
    from lancedb.index import IvfRq

__all__ = ["IvfRq", "lancedb"]
