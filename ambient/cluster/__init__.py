"""Many jobs: what they cost, what a site offers, which are still to be made, how far they are."""
