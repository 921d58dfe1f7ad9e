"""Listening ports and admission to them: limits of connections and calls, and the HTTPS server behind them."""
