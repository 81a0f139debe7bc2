"""Our flush, the ports in C and the copy limit, timed side by side."""
