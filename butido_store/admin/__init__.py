"""What a DBA runs: migrations."""
