"""Every family of classifiers, one line each."""

from models import resnet
from models import slots
from models import pde_layer
from models import pde_attention
from models import pde_aug
from models import augmix
from models import ode_block
from models import neural_ode
from models import diffusifynet
from models import s20
from models import ruthotto_haber
from models import revnet

# Last: whatever is registered by now can be had from timm, too.
from models import citizens
