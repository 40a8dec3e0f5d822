"""The third set of fresh mutations."""
