"""Every family of classifiers, one line each."""

from models import resnet
from models import slots
from models import pde_layer
from models import pde_attention
from models import pde_aug
from models import augmix

# Last: whatever is registered by now can be had from timm, too.
from models import citizens
