"""Convert published weights to a checkpoint of parcnet_train.

  python scripts/convert_weights.py mobilevit_s.pt mobilevit_s.ckpt --from cvnets --backbone mobilevit_s

The checkpoint works with ckpt= (action=test), backbone.pretrained= and parcnet_train.load.
"""  # noqa: E501

from __future__ import annotations

import argparse
from pathlib import Path

from parcnet_train.conversion.convert import convert
from parcnet_train.conversion.layouts import LAYOUTS
from parcnet_train.distributed.user_errors import user_errors


def main() -> None:
    """Run the script; a user error exits with code 2 and one line per fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="file of torch.save, .safetensors or their index")
    parser.add_argument("target", type=Path, help="checkpoint to write; must not exist")
    parser.add_argument("--from", dest="publisher", choices=LAYOUTS, required=True)
    parser.add_argument("--backbone", required=True, help="a config of conf/backbone")
    parser.add_argument("--task", default="classification", help="a config of conf/task")
    parser.add_argument(
        "--classes",
        type=Path,
        help="file with one class name per line; for a detector, background first",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="backbone.fusion=add")
    given = parser.parse_intermixed_args()
    with user_errors():
        print(convert(**vars(given)))


if __name__ == "__main__":
    main()
