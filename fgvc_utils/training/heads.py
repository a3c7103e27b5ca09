"""Layers that are trained on stored features: one fully connected layer, or a convolution first."""

import torch
from torch import nn

KERNEL = 5


class Standardise(nn.Module):
    """Bring features to mean 0 and deviation 1, with figures taken once from the train images.

    Parameters
    ----------
    train_features : Tensor
        Float (images, width).
    common : bool
        Divide all channels by one number in place of that, the root of their mean square. A layer
        that follows can then be taken over by the network itself: a scale of its own for each
        channel would make those of tiny spread weigh as much as the others, and the smallest
        change of the network's weights would move the logits far.
    """

    def __init__(self, train_features: torch.Tensor, common: bool = False) -> None:
        super().__init__()
        mean, scale = train_features.mean(dim=0), train_features.std(dim=0)
        if common:
            mean, scale = torch.zeros_like(mean), train_features.square().mean().sqrt()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", 1 / scale.clamp(min=1e-3).expand_as(mean))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (batch, width) from (batch, width), float32."""
        return (features.float() - self.mean) * self.scale


class ModelConvolution(nn.Module):
    """Mix the features of several networks by a 1-D convolution and BatchNorm1d.

    Parameters
    ----------
    widths : list of int
        How wide the features of each network are; they come side by side, and unlike widths are
        projected to the smallest.
    along : str
        `models`: stacked as (batch, feature, model), kernel over the models, features halved (the
        kernel is the number of models where there are fewer than five). `features`: stacked as
        (batch, model, feature), kernel over the features, models halved.
    channels : int
        Takes the place of the half.
    norm : bool
        Whether BatchNorm follows.
    """

    def __init__(self, widths: list[int], along: str, channels: int = 0, norm: bool = True) -> None:
        super().__init__()
        self.widths, self.along = widths, along
        width, models = min(widths), len(widths)
        self.projections = nn.ModuleList(
            nn.Identity() if own == width else nn.Linear(own, width) for own in widths
        )
        if along == "models":
            kernel = min(KERNEL, models)
            # A width of 1 cannot be halved.
            channels, length = channels or max(1, width // 2), models - kernel + 1
            self.convolution = nn.Conv1d(width, channels, kernel)
        else:
            channels, length = channels or max(1, models // 2), width
            self.convolution = nn.Conv1d(models, channels, KERNEL, padding=KERNEL // 2)
        self.norm = nn.BatchNorm1d(channels) if norm else nn.Identity()
        self.out_width = channels * length

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (batch, out_width) from (batch, sum of widths)."""
        parts = features.split(self.widths, dim=1)
        alike = [project(part) for project, part in zip(self.projections, parts, strict=True)]
        stacked = torch.stack(alike, dim=2 if self.along == "models" else 1)
        return self.norm(self.convolution(stacked)).flatten(1)


class Head(nn.Sequential):
    """Standardise, optionally convolve over models, drop out, classify.

    Parameters
    ----------
    train_features : Tensor
        Float (images, sum of widths).
    widths : list of int
        How wide the features of each network are.
    classes : int
        Outputs.
    kind : str
        `linear`, `convolution` (over the models) or `convolution-along` (the features).
    dropout : float
        Rate before the classifier.
    common_scale : bool
        One scale for all channels, see `Standardise`.
    """

    def __init__(
        self,
        train_features: torch.Tensor,
        widths: list[int],
        classes: int,
        kind: str = "linear",
        dropout: float = 0.0,
        common_scale: bool = False,
    ) -> None:
        steps: list[nn.Module] = [Standardise(train_features, common_scale)]
        width = sum(widths)
        if kind != "linear":
            mixer = ModelConvolution(widths, "models" if kind == "convolution" else "features")
            steps.append(mixer)
            width = mixer.out_width
        super().__init__(*steps, nn.Dropout(dropout), nn.Linear(width, classes))
        # Zero, not random: the head starts with equal logits, and one seed less decides the result.
        nn.init.zeros_(self[-1].weight)
        nn.init.zeros_(self[-1].bias)

    def get_classifier(self) -> nn.Linear:
        """Return the last layer, under the name that timm's networks have for it."""
        return self[-1]
