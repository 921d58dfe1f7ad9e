"""Campaigns as a whole: carried through their states one after the other, and watched by others."""
