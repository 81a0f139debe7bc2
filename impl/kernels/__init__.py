"""Machine code: the flush, the strategies, the check-in protocol, and how they are compiled."""
