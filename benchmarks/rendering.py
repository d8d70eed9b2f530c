"""Frames per second of the tabletop: ours against the stock meshes with MuJoCo's default render
settings, in one run.

    python benchmarks/rendering.py

Both render the same scene from the same camera at the policy's resolution; the two take turns, so
that a busy machine slows both. Each runs in a process of its own, because two OpenGL contexts in
one process disturb each other.
"""

import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection

ROUNDS, SECONDS = 5, 1.0


def serve(connection: Connection, stock: bool) -> None:
    """Render for SECONDS whenever asked; answer with the frame rate."""
    from moxin_sim import Tabletop, sample_episode
    from moxin_vla.core.embodiment import load_embodiment
    from moxin_vla.core.resources import resource_path

    embodiment = load_embodiment(resource_path("config/embodiments/so101_sim.yaml"))
    world = Tabletop(embodiment, stock_visuals=stock, fast_rendering=not stock)
    world.reset(sample_episode("pick", 0))
    world.images()
    connection.send(world.model.mesh_facenum.sum())
    while connection.recv():
        frames, started = 0, time.perf_counter()
        while time.perf_counter() - started < SECONDS:
            frames += len(world.images())
        connection.send(frames / (time.perf_counter() - started))


def main() -> None:
    """Measure and print the ratio."""
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for name, stock in (("stock", True), ("ours", False)):
        here, there = context.Pipe()
        context.Process(target=serve, args=(there, stock), daemon=True).start()
        pipes[name] = here
        print(f"{name:>6}: {here.recv():,} mesh faces")
    rates: dict[str, list[float]] = {name: [] for name in pipes}
    for _ in range(ROUNDS):
        for name, pipe in pipes.items():
            pipe.send(True)
            rates[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in medians.items():
        print(f"{name:>6}: {rate:8.1f} images/s (96x96, median of {ROUNDS} rounds)")
    print(f" ratio: {medians['ours'] / medians['stock']:.1f}")


if __name__ == "__main__":
    main()
