"""What the demo study needs instead of downloads: synthetic speech and tiny checkpoints."""
