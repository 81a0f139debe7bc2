"""What a flush of COLO's RAM cache is. Standard library only; see README.md for the reading order."""
