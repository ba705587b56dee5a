"""The plots of bench/README.md: SVG without a background, in colours that any page shows."""

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_GREY = "#808080"
_COLOURS = ("#2f81f7", "#d9822b", "#c0498f", "#8e6fd8", "#3d9a50", "#7a8899")


def _axes(figure: Figure, x: str, y: str) -> Axes:
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, alpha=0.3, color=_GREY)
    return axes


def _save(figure: Figure, axes: Axes, path: Path) -> Path:
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
    return path


def draw(results: dict[str, Any], directory: Path) -> list[Path]:
    """Draw what the results have, and return the files.

    :param results: by the name of the measurement
    :param directory: where to
    """
    made = []
    colours: dict[Any, Any] = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _GREY
    )
    with mpl.rc_context({**colours, "svg.hashsalt": "butido_store", "svg.fonttype": "none"}):
        sizes = sorted(int(name.split()[-1]) for name in results if name.startswith("reads"))
        if len(sizes) > 1:
            figure = Figure(figsize=(7, 4))
            axes = _axes(figure, "jobs in the store", "milliseconds")
            names = ("reuse", "find-artifact", "submit", "job", "provenance", "jobs image common")
            for name, colour in zip(names, _COLOURS, strict=True):
                points = [(n, results[f"reads · {n}"].get(name)) for n in sizes]
                known = [(n, of["ms"]) for n, of in points if of]
                axes.plot(*zip(*known, strict=True), marker="o", label=name, color=colour)
            made.append(_save(figure, axes, directory / "questions.svg"))
        for jobs in (1, 20):
            figure = Figure(figsize=(7, 4))
            axes = _axes(figure, "writers", f"jobs per second, {jobs} a call, 1 ms network")
            rates: dict[str, list[tuple[int, float]]] = {}
            for name, of in results.items():
                if name.startswith(f"record {jobs} · 1 ms"):
                    for peer, measured in of.items():
                        point = (int(name.split()[-1]), statistics.median(measured["per_second"]))
                        rates.setdefault(peer, []).append(point)
            if not any(len(points) > 1 for points in rates.values()):
                continue
            writers = [count for count, _ in next(iter(rates.values()))]
            axes.set_xticks(writers, [str(count) for count in writers])
            axes.minorticks_off()
            for (peer, points), colour in zip(rates.items(), _COLOURS, strict=True):
                axes.plot(*zip(*points, strict=True), marker="o", label=peer, color=colour)
            made.append(_save(figure, axes, directory / f"writers-{jobs}.svg"))
    return made
