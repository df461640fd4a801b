"""The SQLite file: its schema, and one module per table that reads and writes rows."""
