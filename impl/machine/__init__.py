"""What this machine gives: processors, memory, folders, written pages."""
