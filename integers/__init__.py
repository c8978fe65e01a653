"""A network in integers, for C and for hardware descriptions."""
