"""Time and error of one solve against a plain loop over layers, on SD 1.5- and SDXL-shaped weights.

    OMP_NUM_THREADS=1 nice python bench/editing_speed.py --out docs/editing/speed

Times are CPU seconds of one thread, so that a busy machine does not change them.
The loop is the published 2025 code, operation for operation: per layer it sums outer products
concept by concept and multiplies with an explicit inverse. Ours is the library's own solve and fold
(all layers of the model written). Both start from the same contexts and the same weights. Where
the loop would take longer than ``--patience`` seconds it runs on some layers and the time is scaled
to all of them; such rows are marked with ~.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from tadasu.editing.metric import ridge_and_rows, ridge_solve

#: Coprime to the numbers of layers.
STRIDE = 11
SHAPES = {
    "SD 1.5": (768, [320] * 10 + [640] * 10 + [1280] * 12),
    "SD 2": (1024, [320] * 10 + [640] * 10 + [1280] * 12),
    "SDXL": (2048, [640] * 20 + [1280] * 120),
}


def published_loop(weights, old, guide, kept, patience, lamb=0.5, scale=1.0):
    """The published 2025 loop, operation for operation, float32 as published.

    Outputs of the guide and of the kept concepts are computed once per layer, as there; every
    concept then adds two outer products per layer, and every layer inverts its own matrix.

    Layers are visited in a mixed order, so that those reached within ``patience`` are of all sizes;
    the time is scaled by the numbers that a layer's two sums hold.

    Returns:
        The edited layers that were reached by their number, and the seconds for all of them.
    """
    start, edited = time.process_time(), {}
    size = [weight.numel() + weight.shape[1] ** 2 for weight in weights]
    for number in [(k * STRIDE) % len(weights) for k in range(len(weights))]:
        weight = weights[number]
        outputs = {-1: weight @ guide} | {k: weight @ c for k, c in enumerate(kept)}
        mat1 = lamb * weight
        mat2 = lamb * torch.eye(weight.shape[1])
        for c in old:
            c_i, v_i_star = c[:, None], outputs[-1][:, None]
            mat1 += scale * (v_i_star @ c_i.T)
            mat2 += scale * (c_i @ c_i.T)
        for k, c in enumerate(kept):
            c_i, v_i_star = c[:, None], outputs[k][:, None]
            mat1 += scale * (v_i_star @ c_i.T)
            mat2 += scale * (c_i @ c_i.T)
        edited[number] = mat1 @ torch.inverse(mat2.float())
        if time.process_time() - start > patience:
            break
    share = sum(size[number] for number in edited) / sum(size)
    return edited, (time.process_time() - start) / share


def contexts(count, width, generator):
    """CLIP-like rows: a shared direction and a spectrum that falls off."""
    scale = torch.arange(1, width + 1).float() ** -0.5
    shared = torch.randn(width, generator=generator)
    rows = torch.randn(count, width, generator=generator) * scale * 4 + shared
    return rows / rows.norm(dim=1, keepdim=True) * 28


def one(width, outputs, count, kept_count, patience, generator):
    old, new = contexts(count, width, generator), contexts(1, width, generator).expand(count, -1)
    kept = contexts(kept_count, width, generator)
    weights = [torch.randn(n, width, generator=generator) / width**0.5 for n in outputs]

    model = [weight.clone() for weight in weights]  # the layers that are written to

    start = time.process_time()
    metric = ridge_and_rows(0.5, kept.double())
    edit = ridge_solve(metric, old.double(), (new - old).double(), torch.ones(count).double())
    solved = time.process_time() - start
    folder = edit.folder(torch.float32)
    for weight, layer in zip(weights, model, strict=True):
        folder(weight, out=layer)
    ours = time.process_time() - start

    # Reference in double precision, through a plain inverse, on three layers.
    C, T, P = old.double(), new.double(), kept.double()
    right = 0.5 * torch.eye(width, dtype=torch.float64) + C.T @ C + P.T @ P
    exact = (0.5 * torch.eye(width, dtype=torch.float64) + T.T @ C + P.T @ P) @ torch.inverse(right)
    some = (0, len(outputs) // 2, len(outputs) - 1)
    error = max(
        float((model[i].double() - weights[i].double() @ exact).norm() / model[i].norm())
        for i in some
    )

    theirs, loop = published_loop(weights, old, new[0], kept, patience)
    naive = max(
        float((found - model[number]).norm() / model[number].norm())
        for number, found in theirs.items()
    )
    done = len(theirs)
    return {
        "solve_s": solved,
        "ours_s": ours,
        "loop_s": loop,
        "loop_layers": done,
        "layers": len(outputs),
        "ratio": loop / ours,
        "solve_ratio": loop / solved,
        "error": error,
        "loop_error": naive,
    }


def plot(rows, path):
    """Log-log lines as a small SVG, no plotting library needed."""
    import math

    series = {}
    for row in rows:
        for key, name in (("ours_s", "one solve + fold"), ("loop_s", "loop over layers")):
            series.setdefault((row["shape"], name), []).append((row["concepts"], row[key]))
    xs = [math.log10(r["concepts"]) for r in rows]
    ys = [math.log10(r[k]) for r in rows for k in ("ours_s", "loop_s")]
    low, high = math.floor(min(ys)), math.ceil(max(ys))
    place = lambda n, s: (  # noqa: E731
        70 + 420 * math.log10(n) / max(max(xs), 1),
        300 - 260 * (math.log10(s) - low) / (high - low),
    )
    colours = ["#0b6e4f", "#c1666b", "#2e5eaa"]
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 350" font-family="sans-serif" '
        'font-size="12"><rect width="720" height="350" fill="white"/>'
    ]
    for power in range(low, high + 1):
        y = place(1, 10**power)[1]
        parts.append(f'<path d="M70 {y:.0f}H490" stroke="#ddd"/>')
        parts.append(f'<text x="62" y="{y + 4:.0f}" text-anchor="end">{10.0**power:g} s</text>')
    for n in sorted({r["concepts"] for r in rows}):
        parts.append(f'<text x="{place(n, 1)[0]:.0f}" y="320" text-anchor="middle">{n}</text>')
    parts.append('<text x="280" y="342" text-anchor="middle">concepts</text>')
    for k, ((shape, name), points) in enumerate(series.items()):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*p) for p in sorted(points)))
        dash = ' stroke-dasharray="5 4"' if "loop" in name else ""
        colour = colours[k // 2 % 3]
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        )
        parts.append(f'<text x="505" y="{60 + 20 * k}" fill="{colour}">{shape}: {name}</text>')
    path.write_text("".join(parts) + "</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/editing/speed"))
    parser.add_argument("--counts", type=int, nargs="*", default=[1, 10, 100, 1000])
    parser.add_argument("--kept", type=int, default=100)
    parser.add_argument("--patience", type=float, default=6.0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    rows = []
    for shape, (width, outputs) in SHAPES.items():
        for count in args.counts:
            generator = torch.Generator().manual_seed(count)
            row = one(width, outputs, count, args.kept, args.patience, generator)
            rows.append({"shape": shape, "width": width, "concepts": count} | row)
            print(rows[-1], flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    lines = [
        "| shape | concepts | solve s | solve + fold s | loop s | loop / solve "
        "| loop / (solve + fold) "
        "| relative error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        about = "" if r["loop_layers"] == r["layers"] else "~"
        lines.append(
            f"| {r['shape']} ({r['layers']} × {r['width']}) | {r['concepts']} | {r['solve_s']:.3f} "
            f"| {r['ours_s']:.3f} | {about}{r['loop_s']:.1f} "
            f"| {r['solve_ratio']:.0f} × | {r['ratio']:.0f} × | {r['error']:.1e} |"
        )
    (args.out / "speed.md").write_text("\n".join(lines) + "\n")
    (args.out / "speed.json").write_text(json.dumps(rows, indent=1))
    plot(rows, args.out / "speed.svg")


if __name__ == "__main__":
    main()
