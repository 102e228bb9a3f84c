"""Search: the indexes that a gateway serves, and what a request may ask of them."""
