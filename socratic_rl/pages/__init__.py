"""Figures for people's eyes: the report, the page of a sweep, tables in the terminal."""
