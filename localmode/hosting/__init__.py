"""Endpoints and the model servers behind them."""
