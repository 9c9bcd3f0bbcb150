"""Weights, tokens, prefix forests, log-probabilities, and a trained tutor opened."""
