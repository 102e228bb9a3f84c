"""What a gateway's /metrics shows."""


def sample(metrics: str, name: str) -> float | None:
    """The value of a metric, by its name with its labels in their order; None where there is none.

    A label that is empty is none, as for Prometheus: the gateway's own say no model where that has no name.
    """
    for line in metrics.splitlines():
        plain = line.replace('{model=""}', "").replace(',model=""', "").replace('model="",', "")
        if plain.startswith(name + " "):
            return float(plain.split()[-1])
    return None
