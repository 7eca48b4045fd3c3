"""Networks: raw functions of (scaled image, noise label); preconditioning is `ambient.denoiser`'s."""
