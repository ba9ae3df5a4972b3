"""What the methods that may start from pretrained weights share: which are missing, which were used."""

from __future__ import annotations

from ...method import Method
from ...nets import weights as sources


class PretrainedMethod(Method):
    """A method whose backbone takes the weights that the setting ``weights`` names (:func:`.weights.find`).

    Attributes:
        weights_used: what :func:`.weights.record` says of them; :meth:`build` of the subclass sets it.
    """

    requires = ("timm",)
    weights_used: dict[str, str]

    @property
    def pretrained(self) -> str:
        """The timm model that the weights belong to."""
        raise TypeError(f"{type(self).__name__} does not say which model its weights belong to")

    def skip(self) -> str | None:
        """Say which weights are missing and how to provide them."""
        try:
            sources.find(self.pretrained, self.config.weights)
        except sources.WeightsError as error:
            return str(error)
        return None

    def extra_identity(self) -> str:
        """Return what decides a fit beside its settings: the SHA-256 of the weights, ``random`` for none.

        Raises:
            WeightsError: the weights asked for are missing, or cannot be downloaded or read.
        """
        return sources.identity(self.pretrained, self.config.weights)

    def provenance(self) -> dict[str, str]:
        """Return which weights were used, for the record; empty before :meth:`build`."""
        return dict(getattr(self, "weights_used", {}))
