"""Networks: raw functions of (scaled image, noise label); `ambient.diffusion.denoiser` preconditions them."""
