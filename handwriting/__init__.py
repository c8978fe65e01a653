"""From a photograph to digits, and what the network must learn for that."""
