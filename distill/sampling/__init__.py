"""Problems and a backend in, traces out."""
