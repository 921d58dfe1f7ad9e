"""Files that are written whole or not at all, and text files from any program."""
