"""What can go wrong in a flush, as small runs of the model."""
