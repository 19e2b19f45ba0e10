"""Profiles a table (CSV or Parquet), answers questions by read-only SQL, and draws the answer."""
