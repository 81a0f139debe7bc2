"""The protocols between threads, each step one access to shared memory."""
