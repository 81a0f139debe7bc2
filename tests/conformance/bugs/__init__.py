"""Does the suite catch bugs? A port with many, one at a time, and the table of what caught them."""
