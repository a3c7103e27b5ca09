"""A classifier of angles, and the margin by which it is trained: sub-centre ArcFace.

The network gives scaled cosines alone, in training and when it predicts. The margin belongs to the
loss, so all that trains, averages or predicts takes such a network as any other one.
"""

import torch
import torch.nn.functional as F
from torch import nn


class AngularClassifier(nn.Module):
    """The scaled cosine of the angle between an image's features and the nearest centre of a class.

    Parameters
    ----------
    width : int
        Of the features.
    classes : int
        Outputs.
    centres : int
        Of each class; with several, wrong labels may gather around one of their own.
    scale : float
        By which the cosines are multiplied.

    References
    ----------
    Deng et al., ArcFace: additive angular margin loss for deep face recognition, CVPR 2019. Deng et
    al., Sub-center ArcFace: boosting face recognition by large-scale noisy web faces, ECCV 2020.
    """

    def __init__(self, width: int, classes: int, centres: int, scale: float) -> None:
        super().__init__()
        self.in_features, self.out_features = width, classes
        self.centres = nn.Parameter(torch.empty(classes, centres, width))
        # Of a length of about 1: the longer a centre, the less a step would turn it.
        nn.init.normal_(self.centres, std=width**-0.5)
        # Nothing but the frozen log prior of `balance: prior`.
        self.bias = nn.Parameter(torch.zeros(classes), requires_grad=False)
        # Kept with the weights: a trained network needs no other source for it.
        self.register_buffer("scale", torch.tensor([float(scale)]))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, classes) of features (batch, width), float32."""
        # The shorter floats would leave two digits of an angle.
        with torch.autocast(features.device.type, enabled=False):
            centres = F.normalize(self.centres.float(), dim=2)
            cosines = F.linear(F.normalize(features.float(), dim=1), centres.flatten(0, 1))
            nearest = cosines.unflatten(1, centres.shape[:2]).max(dim=2).values
            return self.scale * nearest + self.bias


def set_angular(body: nn.Module, centres: int, scale: float) -> None:
    """Give a timm network a classifier of angles in place of its last layer.

    Parameters
    ----------
    body : nn.Module
        Changed in place; new weights are drawn from torch's global random numbers.
    centres, scale
        As `AngularClassifier` takes them.

    Raises
    ------
    ValueError
        Where the network's last layer is no fully connected one.
    """
    place, last = body.default_cfg["classifier"], body.get_classifier()
    if not isinstance(last, nn.Linear) or not isinstance(place, str):
        raise ValueError(
            "classifier 'arcface' takes the place of a fully connected last layer, and "
            f"{body.default_cfg.get('architecture', 'this network')} has another kind; set "
            "classifier to linear, or take another backbone"
        )
    angular = AngularClassifier(last.in_features, last.out_features, centres, scale)
    body.set_submodule(place, angular)


class AngularMargin(nn.Module):
    """Turn an image away from its own classes before the loss, so that it has to come nearer.

    To the angle of each class its share of the target times the margin is added: the whole margin
    for a label, for a mixed picture to both its classes in their shares, and nothing where an image
    has no label.

    Parameters
    ----------
    margin : float
        An angle, rad.
    classifier : AngularClassifier
        Whose scale and prior the logits have.

    References
    ----------
    Deng et al., CVPR 2019, see `AngularClassifier`.
    """

    def __init__(self, margin: float, classifier: AngularClassifier) -> None:
        super().__init__()
        self.margin = margin
        self.register_buffer("scale", classifier.scale, persistent=False)
        self.register_buffer("prior", classifier.bias.detach(), persistent=False)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, classes) with the margins of targets (batch, classes)."""
        if not self.margin:
            return logits
        cosines = ((logits - self.prior) / self.scale).clamp(-1, 1)
        angles = self.margin * targets
        # The root has no slope at an angle of nothing.
        sines = (1 - cosines.square()).clamp(min=1e-6).sqrt()
        turned = cosines * angles.cos() - sines * angles.sin()
        # Beyond half a turn the cosine would rise again; there it falls on in a line.
        beyond = cosines < -angles.cos()
        turned = torch.where(beyond, cosines - angles * angles.sin(), turned)
        return self.scale * turned + self.prior
