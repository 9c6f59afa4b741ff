"""Who belongs to us: keys, beacons, election, grants, and the network that carries them."""
