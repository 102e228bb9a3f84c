"""From a caller's socket to the routes: connections, the ASGI middleware, and what is known of a request on its way."""
