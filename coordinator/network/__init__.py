"""Listening ports and who is let in: limits on connections and calls, and the HTTPS server behind them."""
