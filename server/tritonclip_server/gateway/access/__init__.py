"""Who may ask, and how often: open paths, foreign pages, API keys, rate limits."""
