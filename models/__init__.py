"""Every family of classifiers, one line each."""

from models import resnet
from models import pde_aug
