"""How fast a data set becomes vectors: beside the server's own rate, and as workers and servers grow in number."""
