"""Gaussian mixture variational autoencoder; the map is the residual of the reconstruction from the mean code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..card import MethodCard, same
from .parts.base import BUDGETS, INPUT_FIGURE, LENGTH_FIGURE, LUNG_NOTE, ReconstructionConfig, ReconstructionMethod
from .vae import VAE

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class GMVAEConfig(ReconstructionConfig):
    """Settings of :class:`GMVAE`; with the budget ``baur`` its rate is 5·10⁻⁵, the mixture model's own.

    Attributes:
        dim_c: components of the mixture.
        dim_w: length of w, which steers the mixture.
        c_lambda: floor of the divergence of the component from a uniform draw, in nats.
        alpha_kl: weight of the three divergences against the absolute error summed over the slice, 1 in the papers.
    """

    dim_c: int = 9
    dim_w: int = 1
    c_lambda: float = 1.0
    alpha_kl: float = 1.0
    dropout: float = 0.1

    budgets: ClassVar = {**BUDGETS, "baur": {**BUDGETS["baur"], "lr": 5e-5}}
    profiles: ClassVar = ReconstructionConfig.profiles_with(quick={"z": 32, "alpha_kl": 0.01})


class GMVAE(VAE):
    """Learns to reproduce healthy slices through a random code whose prior is a mixture of Gaussians."""

    card = MethodCard(
        name="gmvae",
        title="Gaussian mixture variational autoencoder",
        year=2021,
        family="reconstruction",
        citation="Baur et al., Autoencoders for Unsupervised Anomaly Segmentation in Brain MR Images: A Comparative "
        "Study, Medical Image Analysis 69, 2021; the model: Dilokthanakul et al., Deep Unsupervised Clustering with "
        "Gaussian Mixture Variational Autoencoders, arXiv:1611.02648",
        reference="doi:10.1016/j.media.2020.101952",
        figures=(
            INPUT_FIGURE,
            same("network", "trunk of ae, z 128, c 9, w 1"),
            same("loss", "summed L1 + E KL(z) + KL(w) + max(KL(c), 1)"),
            ("optimiser", "Yao: 3·10⁻⁴, batch 16; Baur: Adam 5·10⁻⁵", "Adam 3·10⁻⁴, batch 16"),
            LENGTH_FIGURE,
        ),
        undertrained=("lung",),
        notes="Dense code of 128 with nine components, summed absolute error, all divergences of weight 1. The rate "
        "is the 3e-4 of Yao et al., and with budget=baur the 5e-5 of the comparative study. " + LUNG_NOTE,
    )
    Config = GMVAEConfig
    tuned: ClassVar = {**ReconstructionMethod.tuned, "dim_c": (3, 12)}
    net: Any

    def make_net(self) -> torch.nn.Module:
        from ..nets.baur import BaurGMVAE

        c = self.config
        return BaurGMVAE(c.size, c.z, c.dim_c, c.dim_w, norm=c.norm, dropout=c.dropout, width=c.width)

    def losses(self, x: torch.Tensor, roi: torch.Tensor, draws: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the negative lower bound per slice, the mean absolute error per pixel and the three divergences."""
        import torch
        from torch.nn import functional

        from ..nets.baur import categorical_kl, component_log_probabilities, gaussian_kl, kl

        q = self.net.posterior(x)
        z, w = (
            mean + torch.exp(log_std) * torch.empty_like(mean).normal_(generator=draws)
            for mean, log_std in ((q.mean_z, q.log_std_z), (q.mean_w, q.log_std_w))
        )
        l1 = functional.l1_loss(self.net.decode(z).float(), x)
        means, log_stds = self.net.prior(w)
        log_c = component_log_probabilities(z, means, log_stds)
        by_component = gaussian_kl(q.mean_z[:, None], q.log_std_z[:, None], means, log_stds)
        kl_z = (log_c.exp() * by_component).sum(1).mean()
        kl_w = kl(q.mean_w, q.log_std_w).mean()
        kl_c = categorical_kl(log_c)
        floored = torch.clamp(kl_c, min=self.config.c_lambda).mean()
        loss = l1 * x[0].numel() + self.config.alpha_kl * (kl_z + kl_w + floored)
        return {"loss": loss, "l1": l1, "kl_z": kl_z, "kl_w": kl_w, "kl_c": kl_c.mean()}
