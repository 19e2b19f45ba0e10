"""Moving in from another server or database, and out again: `holdfast import` and `holdfast export`."""
