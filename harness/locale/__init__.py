"""The texts of other languages, and what a record says in them."""
