"""How much a deployment carries, always measured beside the bare model in the same run."""
