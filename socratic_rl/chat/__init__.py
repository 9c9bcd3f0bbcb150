"""A person talks with a tutor, in the terminal or on a page."""
