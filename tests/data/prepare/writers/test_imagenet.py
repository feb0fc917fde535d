"""Class folders."""

from parcnet_train.data.prepare.annotated import AnnotatedImage, AnnotatedSet
from parcnet_train.data.prepare.writers import imagenet


def test_images_lie_in_the_folder_of_their_class(tmp_path):
    image = AnnotatedImage("a", None, split="val", label="dog")
    assert imagenet.path_of(image, "a.jpg") == "val/dog/a.jpg"
    found = AnnotatedSet(["dog", "cat"], [image])
    imagenet.write(tmp_path, found, ["a.jpg"])
    imagenet.verify(tmp_path, found, ["a.jpg"])
    assert (tmp_path / "classes.txt").read_text() == "cat\ndog\n"  # as folders are sorted
