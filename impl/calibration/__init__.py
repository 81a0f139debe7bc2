"""Where the best ways of flushing change over on this machine: measured once, kept, shown."""
