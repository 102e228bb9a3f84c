"""What happens when things go wrong, on the real product: overload, bad inputs, kills, slow and silent clients, clocks.

    __main__ ─> Service: `tritonclip-server serve` ─> experiments ─> Report: rows of outcomes, limits ─> table, JSON

Every answer under an experiment is checked. Nothing may be wrong, nothing may hang.
"""
