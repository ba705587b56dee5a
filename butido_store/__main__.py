"""`python -m butido_store` is `butido-store`."""

from butido_store.cli import main

main(prog_name="butido-store")
