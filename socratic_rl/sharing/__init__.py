"""A tutor leaves the house: to the hub, as a card, as a GGUF file."""
