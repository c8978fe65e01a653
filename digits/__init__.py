"""Where pictures of digits come from: MNIST, generated digits, and a person's own pictures."""
