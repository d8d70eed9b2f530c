"""`moxin-vla ask`: ask a vision-language model about an image; the answer streams."""

import argparse
import sys
from pathlib import Path

from moxin_vla.core.errors import ObservationError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "ask", help="ask a vision-language model about an image", description=__doc__
    )
    parser.add_argument("image", type=Path, help="image file")
    parser.add_argument("question")
    parser.add_argument(
        "--checkpoint", required=True, help="Moxin-VLM: directory or Hugging Face id"
    )
    parser.add_argument("--device", default="cpu", help="torch device (default %(default)s)")
    parser.add_argument(
        "--max-new-tokens", type=int, default=256, help="longest answer (default %(default)s)"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0: the likeliest words (default)"
    )
    parser.add_argument("--top-p", type=float, default=1.0, help="nucleus to sample from")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--tokenizer", help="for native checkpoints: file, directory or id")
    parser.add_argument(
        "--towers",
        nargs="+",
        default=(),
        help="for native checkpoints: timm files or ids of the vision towers, in order",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the answer."""
    import cv2

    from moxin_vla.policy.moxin.generation import Sampling
    from moxin_vla.policy.moxin.vlm_loading import load_vlm

    image = cv2.imread(str(args.image), cv2.IMREAD_COLOR)
    if image is None:
        raise ObservationError(f"'{args.image}' is missing or not an image.")
    sampling = Sampling(args.max_new_tokens, args.temperature, args.top_p, args.seed)
    vlm = load_vlm(args.checkpoint, args.device, args.tokenizer, tuple(args.towers))
    for piece in vlm.ask(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), args.question, sampling):
        sys.stdout.write(piece)
        sys.stdout.flush()
    print()
    return 0
