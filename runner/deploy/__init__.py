"""What stands in an export folder: its description, its files in their engines, how fast they are, and serving them."""
