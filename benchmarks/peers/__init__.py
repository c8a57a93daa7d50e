"""What a user could pick instead: the same networks, batches and optimizer in stock Paddle, PyTorch and Lightning."""
