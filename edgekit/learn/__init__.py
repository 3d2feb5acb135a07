"""Learn: train a torch model on labels, on a teacher, or on both."""
