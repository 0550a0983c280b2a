"""Sets that are made, not read: binary vectors, and points on a line."""
