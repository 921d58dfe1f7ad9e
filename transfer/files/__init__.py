"""Files written whole or not at all, and text as people's programs write it."""
