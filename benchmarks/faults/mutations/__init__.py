"""One-line changes that make a healthy script faulty, by subject."""
