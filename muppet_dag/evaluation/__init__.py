"""Prediction, metrics and the leaderboard."""
