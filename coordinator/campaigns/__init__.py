"""Campaigns as a whole: a runner that moves them through their states, and views for whoever watches."""
