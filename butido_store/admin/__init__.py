"""What a DBA runs: migrations, checks of the schema and of its health, and retention."""
