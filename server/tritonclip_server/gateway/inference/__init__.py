"""Items to vectors, scores and labels, over an engine."""
