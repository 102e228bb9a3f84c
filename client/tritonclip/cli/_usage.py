"""The error for a command that makes no sense."""


class UsageError(Exception):
    """The arguments cannot be used, for a reason that argparse does not know."""
