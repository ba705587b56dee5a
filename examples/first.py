"""Build a file with a shell script, unless exactly this was built before."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

from butido_store import Store, artifact, build, submit, uuid7
from butido_store.artifact import Output

SCRIPT, ENV = "sort words.txt > sorted.txt", {"LC_ALL": "C"}
Path("words.txt").write_text("pear\napple\nfig\n")
words = Output.from_file("words.txt", "words.txt")
request, job = uuid7(), uuid7()
node = {"name": "words", "version": "1.0", "dependencies": []}
plan = {"uuid": str(job), "package": "words", "version": "1.0", "needs": []}

with Store.connect() as store:  # libpq's environment, else the embedded server
    entry = artifact.register(words.path, sha256=words.sha256, size=words.size)
    source = store.run(entry)
    building = build(
        store, job, submit=request, endpoint="here",
        package="words", version="1.0", image="none",
        script=SCRIPT, env=ENV, inputs=[source],
    )  # fmt: skip
    if known := store.run(building.reusable()):
        print("nothing to build:", *(made.path for made in known.outputs))
    else:
        asked = submit.create(
            request, package="words", version="1.0", image="none",
            timestamp=datetime.now(UTC),
            repo_hash="0" * 40,  # the commit of the package repository
            tree={"root": 0, "nodes": [node]}, buildplan={"jobs": [plan]},
        )  # fmt: skip
        store.run(asked)
        with building as running:
            command = ["sh", "-c", SCRIPT]
            done = subprocess.run(command, env=ENV, capture_output=True)
            running.log(done.stdout + done.stderr)
            if done.returncode == 0:
                output = Output.from_file("sorted.txt", "sorted.txt")
                running.finish("success", [output])
                print("built: sorted.txt")
