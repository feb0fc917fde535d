"""Unpack ImageNet-1k (ILSVRC2012) from its official files into one folder of images per class.

  python scripts/prepare_imagenet.py /downloads /data/imagenet
  python -m parcnet_train data=imagenet data.root=/data/imagenet

/downloads contains ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and
ILSVRC2012_devkit_t12.tar.gz from image-net.org. The script may be killed at any time: started
again, it resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from parcnet_train.data.prepare.official.imagenet import prepare_imagenet
from parcnet_train.distributed.user_errors import user_errors


def main() -> None:
    """Run the script; a user error exits with code 2 and one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folder with the three official files")
    parser.add_argument("root", type=Path, help="folder to write train, val and classes.txt to")
    given = parser.parse_args()
    with user_errors():
        print(prepare_imagenet(given.source, given.root))


if __name__ == "__main__":
    main()
