"""How much a deployment carries, and what limits it.

cli ─> deployment ─> meter: steps of load + Triton's counters ─> knee, stages ────┐
                 └─> compare: bare encoder, protocols, batching; rounds in turn ──┴─> report ─> JSON, Markdown, charts
repositories ─> `compare`: several deployments in turn, with the CPU time of each process
bench ────────> `make bench`: the ratios of docs/performance.md
"""
