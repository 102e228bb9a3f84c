"""What the client's methods do, one module for each: generators of effects, which ``_core`` performs.

embed        any number of items, in chunks
compare      images against texts
classify     labels for images: of a stored label set, or those given with the call (``free_labels``)
status       the manifest, and what a server says about itself
truncation   texts longer than what the model reads
checks       whether an answer can be true
"""
