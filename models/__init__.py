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
from models import polynet
from models import rk_resnet
from models import lm_resnet
from models import fractalnet
from models import stochastic_depth
from models import shake_shake
from models import neural_sde
from models import convection_diffusion

# Last: whatever is registered by now can be had from timm, too.
from models import citizens
