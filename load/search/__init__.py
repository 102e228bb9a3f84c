"""How fast images are searched and taken in, beside numpy, faiss and the bare client.

vectors ─> searching: an index of each size, in a process of its own ─> `python -m load.search`, build/search.json
ingest ──> `python -m load.search ingest`: images/s into an index ÷ embedding alone, build/search-ingest.json
"""
