"""What pytest sees of the suite."""
