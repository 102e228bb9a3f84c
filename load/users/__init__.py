"""The users of Locust: scenarios and their shapes, what each must hold, and the report."""
