"""Build the paper's segmentation training set, VOC 2012 with SBD and COCO, in VOC's layout.

  python scripts/prepare_voc.py VOCtrainval_11-May-2012.tar benchmark.tgz /data/voc --coco /coco
  python -m parcnet_train task=segmentation data=voc data.root=/data/voc

The training set has VOC's 1,464 images and 9,118 more with masks from SBD, 10,582 together, and
with --coco those images of COCO 2017 that show VOC's classes. The validation set has VOC's 1,449
images. The sources are only read. The script may be killed at any time: started again, it resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from parcnet_train.data.prepare.official.coco_to_voc import RULES
from parcnet_train.data.prepare.official.voc import prepare_voc
from parcnet_train.distributed.user_errors import user_errors


def main() -> None:
    """Run the script; a user error exits with code 2 and one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "voc", type=Path, help="VOCtrainval_11-May-2012.tar, or the folder VOC2012 from it"
    )
    parser.add_argument(
        "sbd", type=Path, help="benchmark.tgz, or the folder benchmark_RELEASE/dataset from it"
    )
    parser.add_argument("root", type=Path, help="folder to write the data set to")
    parser.add_argument(
        "--coco", type=Path, help="folder with train2017 and annotations/instances_train2017.json"
    )
    parser.add_argument(
        "--coco-rule",
        choices=RULES,
        default="released",
        help="released: the first annotation of a pixel wins, other categories are background; "
        "later-on-top: the last annotation wins, other categories and crowds are ignored "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--link",
        choices=("hard", "symbolic"),
        default="copy",
        help="link images that are in folders instead of copying them",
    )
    given = parser.parse_args()
    with user_errors():
        print(
            prepare_voc(given.voc, given.sbd, given.root, given.coco, given.coco_rule, given.link)
        )


if __name__ == "__main__":
    main()
