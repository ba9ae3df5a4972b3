"""What published weights of timm's models were made from."""

import fnmatch

from ..pretraining import NONE, Pretraining

IMAGENET = Pretraining(corpus="photographs of ImageNet")
CORPORA = {
    "*dinov2*": Pretraining("web", corpus="142 million curated pictures of the web"),
    "*dinov3*": Pretraining("web", corpus="1.7 billion curated pictures of the web"),
    "*clip*": Pretraining("web", corpus="pictures of the web with captions"),
    "samvit*": Pretraining(corpus="licensed photographs of SA-1B"),
}


def of_backbone(backbone: str, weights: str) -> Pretraining:
    """Return what published weights of a timm model were made of; weights that are drawn at random have seen nothing.

    Weights of a file are taken for those of the model that they are given for.
    """
    if weights == "random":
        return NONE
    return next((seen for like, seen in CORPORA.items() if fnmatch.fnmatchcase(backbone, like)), IMAGENET)
