"""How much a deployment carries, and what limits it.

cli ─> deployment ─> sweep (steps: traffic + Triton's counters) ─> knee, stages ─┐
                 ├─> versus (bare encoder, ways in), batching: rounds in turn ───┼─> report ─> JSON, Markdown, charts
tune ─> repositories (edited copies) ─> rounds against the present setting ──────┘
"""
