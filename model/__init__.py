"""The SANA-WM network: arithmetic only, tensors in and tensors out."""

import logging

# Where torchao is installed, importing diffusers tells of kernels and formats that nothing here asks for.
for _name in ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
    logging.getLogger(_name).setLevel(logging.ERROR)
