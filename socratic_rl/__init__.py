"""Socratic RL: train open language models to tutor by asking, not telling."""
