"""`python -m butido_store` is `butido-store`."""

from butido_store.cli.main import main

main(prog_name="butido-store")
