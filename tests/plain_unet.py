"""The DDPM++ network once more, from the papers' formulas, as functions of a dictionary of public weights.

Source: Song et al. 2021 (arXiv:2011.13456, appendix), Karras et al. 2022 (arXiv:2206.00364, appendix F.2).
"""

import math

import torch
from torch.nn import functional as F


class PlainUNet:
    """F(x, c_noise) by the weights `w`, for images of `side` pixels."""

    def __init__(self, w, side, mult, blocks):
        self.w, self.side, self.mult, self.blocks = w, side, mult, blocks

    def linear(self, name, x):
        return F.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def conv(self, name, x):
        weight = self.w[f"{name}.weight"]
        return F.conv2d(x, weight, self.w[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(self, name, x):
        groups = min(32, x.shape[1] // 4)
        parts = x.reshape(len(x), groups, -1)
        mean, variance = parts.mean(2, keepdim=True), parts.var(2, correction=0, keepdim=True)
        whole = ((parts - mean) / (variance + 1e-6).sqrt()).reshape(x.shape)
        return whole * self.w[f"{name}.weight"][:, None, None] + self.w[f"{name}.bias"][:, None, None]

    def embedding(self, c_noise, classes=None, labels=None):
        half = self.w["map_layer0.weight"].shape[1] // 2
        k = torch.arange(half, dtype=c_noise.dtype)
        angles = torch.outer(c_noise, 10_000.0 ** (-k / (half - 1)))
        e = torch.cat([angles.sin(), angles.cos()], 1)
        e = e if classes is None else e + self.linear("map_label", classes * math.sqrt(classes.shape[1]))
        e = e if labels is None else e + self.linear("map_augment", labels)
        return F.silu(self.linear("map_layer1", F.silu(self.linear("map_layer0", e))))

    def block(self, name, x, e):
        def resized(x):
            if name.endswith("_down"):
                return F.avg_pool2d(x, 2)
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3) if name.endswith("_up") else x

        h = self.conv(f"{name}.conv0", resized(F.silu(self.norm(f"{name}.norm0", x))))
        h = h + self.linear(f"{name}.affine", e)[:, :, None, None]
        h = self.conv(f"{name}.conv1", F.silu(self.norm(f"{name}.norm1", h)))
        skip = self.conv(f"{name}.skip", resized(x)) if f"{name}.skip.weight" in self.w else x
        x = (h + skip) / math.sqrt(2)
        return self.attended(name, x) if f"{name}.qkv.weight" in self.w else x

    def attended(self, name, x):
        batch, channels = x.shape[:2]
        qkv = self.conv(f"{name}.qkv", self.norm(f"{name}.norm2", x)).reshape(batch, channels, 3, -1)
        q, k, v = qkv.unbind(2)
        seen = torch.einsum("bcq,bck->bqk", q, k / math.sqrt(channels)).softmax(2)
        told = torch.einsum("bqk,bck->bcq", seen, v).reshape(x.shape)
        return (x + self.conv(f"{name}.proj", told)) / math.sqrt(2)

    def encoded(self, x, e):
        """Feature maps of all layers of the downward half."""
        found = []
        for level in range(len(self.mult)):
            at = f"enc.{self.side >> level}x{self.side >> level}"
            found.append(self.block(f"{at}_down", found[-1], e) if level else self.conv(f"{at}_conv", x))
            for i in range(self.blocks):
                found.append(self.block(f"{at}_block{i}", found[-1], e))
        return found

    def __call__(self, x, c_noise, classes=None, labels=None):
        e = self.embedding(c_noise, classes, labels)
        skips = self.encoded(x, e)
        x = skips[-1]
        for level in reversed(range(len(self.mult))):
            at = f"dec.{self.side >> level}x{self.side >> level}"
            for part in ("in0", "in1") if level == len(self.mult) - 1 else ("up",):
                x = self.block(f"{at}_{part}", x, e)
            for i in range(self.blocks + 1):
                x = self.block(f"{at}_block{i}", torch.cat([x, skips.pop()], 1), e)
        return self.conv(f"{at}_aux_conv", F.silu(self.norm(f"{at}_aux_norm", x)))
