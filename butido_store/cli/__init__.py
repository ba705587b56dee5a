"""The command line `butido-store`, thin over the library and over `butido_store.admin`."""
