"""Planning: where a network's tensors lie in memory, and which kernel runs which operator."""
