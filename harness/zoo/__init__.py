"""mmaction2's model zoo as declarations: its files are read, and no model software is imported."""
