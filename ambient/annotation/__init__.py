"""Ways of finding each sample's sigma_min and sigma_max."""
