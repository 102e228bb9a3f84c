"""How much is worked on at once: the bytes that requests hold, and the places in the engine."""
