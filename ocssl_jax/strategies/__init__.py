"""What continual learning adds to the plain step."""
