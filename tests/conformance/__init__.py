"""Does a flush, in any language, do what the model says? See README.md."""

#: The kit's own: what it demands, and the vectors it writes, change with it.
VERSION = "2"
