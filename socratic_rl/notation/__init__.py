"""How numbers and answers are written, and whether a text states one."""
