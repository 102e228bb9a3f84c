"""What keeps a capacity report from being made."""


class NotMeasurable(Exception):
    """There is nothing to measure; says why."""
