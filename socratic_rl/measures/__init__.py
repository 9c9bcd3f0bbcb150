"""What one reply says, and how sure a figure is."""
