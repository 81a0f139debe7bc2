"""What the commands show: tables, progress, figures."""
