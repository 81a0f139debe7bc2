"""Every interleaving of a protocol, and any one of them again."""
