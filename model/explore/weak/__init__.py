"""The protocols over memories in which not all see a store at once."""
