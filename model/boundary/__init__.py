"""What comes into the project and goes out of it: arguments, files, text, an exit code."""
