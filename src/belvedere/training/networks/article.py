"""The article's network: a small Keras CNN for 150 x 150 images, with Keras' initialization and batch norm."""

from collections import OrderedDict

from torch import nn

from belvedere.training.networks.registry import Network, register
from belvedere.types.model import Preprocess


@register(
    "article",
    summary="CNN of the article: four convolutions, two poolings, two dense layers",
    source="the blog article that Belvedere started from, built as its Keras program builds it",
    license_id="Apache-2.0",
    preprocess=Preprocess(150, 150, "stretch"),
)
class ArticleNetwork(Network):
    """135,942 parameters for six classes, 128 of which are batch-norm statistics."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 16, 3),  # 150 -> 148
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(16, 32, 3),  # -> 146
                relu2=nn.ReLU(),
                pool1=nn.MaxPool2d(5),  # -> 29
                conv3=nn.Conv2d(32, 32, 3),  # -> 27
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(32, 64, 3),  # -> 25
                relu4=nn.ReLU(),
                pool2=nn.MaxPool2d(5),  # -> 5
                dropout1=nn.Dropout(0.4),
                flatten=nn.Flatten(),
                dense1=nn.Linear(5 * 5 * 64, 64),
                relu5=nn.ReLU(),
                norm=nn.BatchNorm1d(64, eps=0.001, momentum=0.01),  # Keras' momentum of 0.99 is 1 - 0.99 in PyTorch
                dropout2=nn.Dropout(0.2),
            )
        )
        self.classify = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
