"""Does a flush, in any language, do what the model says? See README.md."""
