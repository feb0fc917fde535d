"""Class folders as Hugging Face data sets."""

import datasets
import pyarrow.parquet

from parcnet_train.data.classification.huggingface import HuggingFaceData
from parcnet_train.data.classification.transforms import Augmentation
from running import configure

SETTINGS = {
    "image_size": 32,
    "batch_size": 2,
    "augmentation": Augmentation(),
    "num_workers": 0,
    "seed": 3,
}


NAMES = ["ant", "bee", "cat"]


FEATURES = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})


def rows_of(folder, features=FEATURES):
    """Return the files of class folders as rows, in the order in which the folders are read."""
    files = sorted(folder.glob("*/*"))
    return datasets.Dataset.from_dict(
        {
            "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
            "label": [NAMES.index(file.parent.name) for file in files],
        },
        features,
    )


def saved(rows, root):
    datasets.DatasetDict(rows).save_to_disk(str(root))


def parquet(pattern):
    def write(rows, root):
        for split, table in rows.items():
            for number in range(2):
                file = root / pattern.format(split=split, number=number)
                file.parent.mkdir(parents=True, exist_ok=True)
                table.shard(2, number, contiguous=True).to_parquet(str(file))

    return write


def faults_of(root, *overrides):
    return configure(["data=huggingface", f"data.root={root}", *overrides])[1]


def rewritten(rows, root, change):
    """Write rows to the Parquet file of a split, after an unchecked change of the table."""
    table = change(rows.data.table)
    (root / "data").mkdir(parents=True)
    pyarrow.parquet.write_table(table, root / "data" / "validation-0.parquet")
    return HuggingFaceData(str(root), **SETTINGS)
